//! `peerwork id`: who this peer is.

use std::path::Path;

use peerwork::{Entropy as _, Keypair};
use peerwork_driver::{OsEntropy, keyfile};
use serde_json::json;

use crate::{
    args::IdArgs,
    failure::Failure,
    out::{Out, Paint},
};

pub(crate) fn id(args: &IdArgs, out: Out) -> Result<(), Failure> {
    match &args.key {
        Some(path) => {
            let file = keyfile::load_or_create(path).map_err(|error| Failure::new(error.to_string()))?;
            if let Some(exposed) = &file.exposed {
                eprintln!("warning: {exposed}");
            }
            tell(&file.keypair, Some((path, file.created)), out)
        }
        None => {
            let mut seed = [0; 32];
            let refused = |error| Failure::new(format!("the operating system's random generator fails: {error}"));
            OsEntropy::new().map_err(refused)?.fill(&mut seed);
            tell(&Keypair::from_seed(seed), None, out)
        }
    }
}

fn tell(keypair: &Keypair, file: Option<(&Path, bool)>, out: Out) -> Result<(), Failure> {
    let public = keypair.public();
    let (peer, kind) = (public.peer_id(), format!("{:?}", public.kind()));
    let json = || {
        json!({
            "event": "id",
            "peer": peer.to_string(),
            "key_type": kind,
            "key_file": file.map(|(path, _)| path.to_string_lossy()),
            "created": file.is_some_and(|(_, created)| created),
            "ephemeral": file.is_none(),
        })
    };
    let human = || {
        let origin = match file {
            Some((path, true)) => format!("new key, kept in {}", path.display()),
            Some((path, false)) => format!("key from {}", path.display()),
            None => "ephemeral: the key is not kept; --key FILE keeps one".into(),
        };
        format!("{peer}\n{}", out.paint(Paint::Faint, &format!("{kind}, {origin}")))
    };
    Ok(out.say(json, human)?)
}
