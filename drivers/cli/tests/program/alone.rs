//! One process: commands, files, errors, exit codes.

use std::{fs, time::Duration};

use crate::harness::{Running, free_port, run};

fn str(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_key_file_is_private_and_gives_the_same_id_again() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("peer.key");
    let first = run(&["id", "--key", str(&key), "--json"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let first = first.event("id");
    assert_eq!(
        (&first["created"], &first["ephemeral"], &first["key_type"]),
        (&true.into(), &false.into(), &"Ed25519".into())
    );
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o600);
    }
    let again = run(&["id", "--key", str(&key), "--json"]).event("id");
    assert_eq!((&again["created"], &again["peer"]), (&false.into(), &first["peer"]));
    let human = run(&["id", "--key", str(&key)]);
    assert_eq!(human.stdout.lines().next(), first["peer"].as_str());

    // And it is the id of the peer that runs.
    let mut peer = Running::start(&["run", "--json", "--listen", "127.0.0.1:0", "--key", str(&key)]);
    assert_eq!(peer.event("started")["peer"], first["peer"]);
}

#[test]
fn without_a_key_file_the_id_is_another_one_each_time() {
    let ids = [run(&["id", "--json"]).event("id"), run(&["id", "--json"]).event("id")];
    assert_ne!(ids[0]["peer"], ids[1]["peer"]);
    assert_eq!(ids[0]["ephemeral"], true);
    assert!(run(&["id"]).stdout.contains("ephemeral"));
}

#[test]
fn a_file_that_holds_no_key_is_an_error_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("peer.key");
    fs::write(&key, "not a key").unwrap();
    for command in [["id", "--key"], ["run", "--key"]] {
        let ended = run(&[command[0], command[1], str(&key)]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("is not a libp2p private key"), "{ended:?}");
        assert!(ended.stderr.contains(str(&key)), "{ended:?}");
    }
    assert_eq!(fs::read(&key).unwrap(), b"not a key");
}

#[test]
fn errors_are_json_too_if_that_was_asked_for() {
    let ended = run(&["id", "--json", "--key", "/no/such/folder/peer.key"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.event("error")["message"].as_str().unwrap().contains("does not exist"), "{ended:?}");
    let misused = run(&["ping", "nonsense", "--json"]);
    assert_eq!(misused.code, Some(2));
    assert!(misused.event("error")["message"].as_str().unwrap().contains("for example"), "{misused:?}");
    assert!(misused.stderr.contains("192.0.2.1:4001"), "{misused:?}");
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in ["id", "run", "ping", "echo", "perf", "replay", "demo"] {
        let help = run(&[command, "--help"]);
        assert_eq!(help.code, Some(0));
        assert!(help.stdout.contains("Examples:") && help.stdout.contains(&format!("peerwork {command}")), "{help:?}");
    }
    assert!(run(&["--help"]).stdout.contains("Examples:"));
    assert!(run(&["--version"]).stdout.starts_with("peerwork "));
}

#[test]
fn a_ping_to_nobody_ends_within_its_timeout() {
    let address = format!("127.0.0.1:{}", free_port());
    let ended = run(&["ping", &address, "--timeout", "1s", "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.time < Duration::from_secs(8), "{ended:?}");
    assert!(ended.event("error")["message"].as_str().unwrap().contains("cannot connect"), "{ended:?}");
}

#[test]
fn a_listener_that_cannot_be_is_the_end_only_if_there_is_no_other() {
    let (_peer, address) = Running::peer(&[]);
    let taken = address.split("/p2p/").next().unwrap();
    let ended = run(&["run", "--json", "--listen", taken]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let message = ended.event("error")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("in use") && message.contains("--listen"), "{message}");

    let mut other = Running::start(&["run", "--json", "--listen", taken, "--listen", "127.0.0.1:0"]);
    assert_eq!(other.event("listen_failed")["address"], taken);
    other.event("listening");
}

#[test]
fn mistakes_in_the_configuration_are_named_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peerwork.toml");
    let cases = [
        ("[quic]\n\nidle_timout = 5\n", ":3: unknown key `idle_timout` in [quic]; did you mean `idle_timeout`?"),
        (
            "driver = \"mio\"\n[quic]\nkeep_alive = \"60s\"\n",
            ":3: Config::quic.keep_alive is Some(60s), but must be from",
        ),
        ("echo = \n", ":1: "),
    ];
    for (content, words) in cases {
        fs::write(&file, content).unwrap();
        let ended = run(&["run", "--config", str(&file)]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(&format!("{}{words}", str(&file))), "{content}: {}", ended.stderr);
    }
    let missing = run(&["run", "--config", "/no/such/file.toml"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("cannot read the configuration /no/such/file.toml"), "{missing:?}");
}

#[test]
fn the_printed_configuration_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peerwork.toml");
    let printed = run(&["run", "--print-config"]);
    assert_eq!(printed.code, Some(0));
    assert!(printed.stdout.contains("[quic]") && printed.stdout.contains("\nidle_timeout = \"30s\"\n"), "{printed:?}");
    fs::write(&file, &printed.stdout).unwrap();
    let again = run(&["run", "--config", str(&file), "--print-config"]);
    assert_eq!(again.stdout, printed.stdout);
    // Flags count more than the file.
    let other = run(&["run", "--config", str(&file), "--print-config", "--driver", "smol", "--echo"]);
    assert!(other.stdout.contains("\ndriver = \"smol\"\n") && other.stdout.contains("\necho = true\n"), "{other:?}");
}
