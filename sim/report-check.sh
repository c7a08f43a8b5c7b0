#!/usr/bin/env bash
# Loads the sample reports in a headless browser, light and dark, wide and narrow, and measures them: no message on the
# console, every drawing has a size and every label lies within its drawing, labels of an axis do not overlap, and nothing sticks
# out of the page sideways. Usage: sim/report-check.sh [DIRECTORY]; pages and screenshots stay in DIRECTORY if it is given.
#
# The browser is $CHROME, or chromium or chrome on the path, or is installed with apt-get where that may be done. Without one
# this fails: a check that did not run is not a check that passed.
set -euo pipefail
cd "$(dirname "$0")"

browser=${CHROME:-}
find_browser() {
    for name in chromium chromium-browser google-chrome google-chrome-stable chrome; do
        if command -v "$name"; then return; fi
    done
}
[ -n "$browser" ] || browser=$(find_browser) || true
if [ -z "$browser" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "no browser found: installing chromium"
    apt-get update -q && apt-get install -qy --no-install-recommends chromium fonts-dejavu-core
    browser=$(find_browser) || true
fi
if ! command -v "${browser:-none}" >/dev/null; then
    echo "report-check: no browser. Install chromium, or name one in \$CHROME." >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pages=$work/pages
if [ $# -gt 0 ]; then mkdir -p "$1"; pages=$(cd "$1" && pwd); fi
cargo run -q --locked -p peerwork-sim --example report_sample "$pages" >/dev/null

# A page that must fail in every way, so that a measure that sees nothing is seen.
cat >"$pages/canary.html" <<'HTML'
<!DOCTYPE html><html><head><meta charset="utf-8"/><title>canary</title></head><body>
<div style="width:3000px">wide</div><script>console.error("noise")</script>
<svg viewBox="0 0 100 50" width="100"><text x="90" y="20">sticks out of it</text>
<g class="axis"><text x="10" y="40">one</text><text x="12" y="40">other</text></g></svg>
<svg width="0" height="0"></svg></body></html>
HTML

# The page under test is in a frame, since a browser's own window has a least width.
cat >"$work/measure.html" <<'HTML'
<!DOCTYPE html><html><head><meta charset="utf-8"/><title>measure</title></head><body style="margin:0"><pre id="result">not run</pre>
<script>
const [page, width] = location.hash.slice(1).split(",");
const frame = document.createElement("iframe");
frame.style = `border:0;width:${width}px;height:900px`;
frame.onload = () => {
  const inner = frame.contentDocument, faults = [], slack = 1.5;
  const name = e => (e.tagName + "." + (e.getAttribute("class") || "") + " " + e.textContent.trim().slice(0, 40)).replace(/\s+/g, " ");
  inner.querySelectorAll("details").forEach(e => e.open = true);
  if (inner.documentElement.scrollWidth > frame.clientWidth) faults.push(`the page is ${inner.documentElement.scrollWidth} wide`);
  for (const e of inner.body.querySelectorAll("*")) {
    if (e.closest("svg") || e.closest(".hidden")) continue;
    const box = e.getBoundingClientRect();
    if (box.right > frame.clientWidth + slack && !e.closest(".scroll")) faults.push("out of the page: " + name(e));
  }
  const drawings = inner.querySelectorAll("svg");
  for (const svg of drawings) {
    const frameBox = svg.getBoundingClientRect();
    if (frameBox.width < 50 || frameBox.height < 30) faults.push("a drawing without a size");
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      if (box.left < frameBox.left - slack || box.right > frameBox.right + slack || box.bottom > frameBox.bottom + slack || box.top < frameBox.top - slack)
        faults.push("out of its drawing: " + name(text));
      if (parseFloat(getComputedStyle(text).fontSize) * frameBox.width / svg.viewBox.baseVal.width < 8.5) faults.push("too small to read: " + name(text));
    }
    const labels = [...svg.querySelectorAll(".axis text, text.quantile, .bands text, text.lane")].map(e => [e, e.getBoundingClientRect()]);
    // By the drawn height of letters, which is less than that of the line.
    labels.forEach(([a, p], n) => labels.slice(n + 1).forEach(([b, q]) => {
      const across = Math.min(p.right, q.right) - Math.max(p.left, q.left), down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (across > 0.5 && down > 4) faults.push(`overlap: ${name(a)} and ${name(b)}`);
    }));
  }
  const kinds = [...new Set(faults)];
  document.getElementById("result").textContent = `MEASURED ${drawings.length} drawings, FAULTS ${kinds.length}` + kinds.slice(0, 12).map(f => "\n  " + f).join("") + "\nEND";
  frame.remove();
};
frame.src = page;
document.body.append(frame);
</script></body></html>
HTML

# look URL WIDTH SCHEME [ARGUMENT...]: 0 is dark, 1 is light.
look() {
    local url=$1 width=$2 scheme=$3
    shift 3
    rm -rf "$work/profile"
    timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars \
        --disable-background-networking --disable-component-update --disable-sync --user-data-dir="$work/profile" \
        --allow-file-access-from-files --blink-settings=preferredColorScheme="$scheme" --window-size="$width",900 \
        --enable-logging=stderr --virtual-time-budget=10000 "$@" "$url" 2>"$work/log" >"$work/dom" || true
}

# measure PAGE WIDTH SCHEME: sets $report and $noise.
measure() {
    look "file://$work/measure.html#file://$pages/$1.html,$2" 1400 "$3" --dump-dom
    report=$(sed -n '/>MEASURED/,/^END/p' "$work/dom" | sed 's/.*>MEASURED/MEASURED/; /^END/d')
    noise=$(grep 'CONSOLE' "$work/log" || true)
}

measure canary 1280 1
for sign in 'the page is 30' 'out of the page' 'without a size' 'out of its drawing' 'overlap'; do
    case $report in *"$sign"*) ;; *) echo "the canary lived: no '$sign' in: $report" >&2; exit 1 ;; esac
done
[ -n "$noise" ] || { echo "the canary lived: its message was not seen" >&2; exit 1; }
rm "$pages/canary.html"

failed=0
for page in run passed sweep many empty hostile; do
    for view in "1280 1" "1280 0" "400 1"; do
        read -r width scheme <<<"$view"
        measure "$page" "$width" "$scheme"
        case $report in
            *"MEASURED 0 drawings, FAULTS 0"*) [ "$page" = empty ] || { echo "$page: nothing was drawn" >&2; failed=1; } ;;
            *"FAULTS 0"*) ;;
            *) echo "$page at $width: ${report:-not measured}" >&2; failed=1 ;;
        esac
        [ -z "$noise" ] || { echo "$page at $width: $noise" >&2; failed=1; }
    done
    echo "$page: looked at"
    if [ $# -gt 0 ]; then
        for scheme in 0 1; do look "file://$pages/$page.html" 1280 "$scheme" --window-size=1280,6000 --screenshot="$pages/$page-$scheme.png"; done
    fi
done
exit $failed
