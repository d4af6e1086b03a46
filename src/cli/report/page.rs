//! The report as one HTML page: no script, no other file, charts as inline SVG. Its content security policy lets nothing in
//! but its own style, so that a name in the log can do nothing to whoever reads it. No I/O here.

use std::fmt::{Display, Write as _};

use sha2::{Digest as _, Sha256};

use super::tally::{Day, Tally};
use super::{Facts, Unpicked};
use crate::cli::say::size;
use crate::ledger::checkpoint::base64;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;color:#1b1f24;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}p{margin:.4rem 0}.quiet{color:#59636e}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d8dee4;vertical-align:top}\
th{font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums}\
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.6rem;margin:1.2rem 0}\
dl div{border:1px solid #d8dee4;border-radius:6px;padding:.6rem .8rem}dt{color:#59636e}dd{margin:0;font-size:1.4rem}\
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#59636e}\
.a{fill:#0b6bcb}.b{fill:#1a8754}.c{fill:#b35900}.axis{stroke:#d8dee4}\
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}\
@media print{body{margin:0;max-width:none}h2{break-after:avoid}}";

/// Bars side by side before they become too thin to tell apart.
const BARS_MAX: usize = 62;

/// Partners in the chart; all are in the table.
const CHARTED: usize = 20;

pub fn page(facts: &Facts, tally: &Tally, unpicked: &Unpicked) -> String {
    let total = tally.total();
    let style = base64(&Sha256::digest(STYLE));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style}'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{0}: transfers {1} to {2}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n\
         <p>Transfers from {1} up to {2} (UTC). Made {3} from {4} events; the log then had {5} events with the root \
         <code>{6}</code>.</p>\n",
        escape(&facts.server),
        facts.from,
        facts.to,
        facts.made,
        tally.events,
        facts.log_size,
        escape(&facts.log_root)
    );
    out.push_str("<dl>");
    for (name, value) in [
        ("received", total.received.to_string()),
        ("bytes", size(total.received_bytes)),
        ("disclosed", total.picked_up.to_string()),
        ("expired", total.expired.to_string()),
        ("refused", total.refused.to_string()),
        ("not picked up", unpicked.count.to_string()),
    ] {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl>\n");
    let (unit, bars) = bars(tally);
    let _ = writeln!(out, "<h2>By {unit}</h2>\n{}", columns(unit, &bars));
    by_partner(&mut out, tally);
    disclosures(&mut out, tally);
    refusals(&mut out, tally);
    not_picked_up(&mut out, unpicked);
    out.push_str(
        "<h2>Technical safeguards (45 CFR 164.312)</h2>\n<table><tr><th>Rule<th>Safeguard<th>What the log shows</tr>\n",
    );
    for (rule, name, shown) in tally.safeguards() {
        let _ = writeln!(out, "<tr><td>{rule}<td>{name}<td>{shown}</tr>");
    }
    out.push_str("</table>\n</body>\n</html>\n");
    out
}

fn by_partner(out: &mut String, tally: &Tally) {
    let mut partners: Vec<_> = tally.users.iter().filter(|(_, user)| user.sent + user.refused > 0).collect();
    partners.sort_by(|(a, x), (b, y)| y.sent.cmp(&x.sent).then(a.cmp(b)));
    out.push_str("<h2>By partner</h2>\n");
    if partners.is_empty() {
        out.push_str("<p class=\"quiet\">Nobody sent anything.</p>\n");
        return;
    }
    let rows: Vec<_> = partners.iter().take(CHARTED).map(|(name, user)| (name.as_str(), user.sent)).collect();
    out.push_str(&lines("Files sent by each partner", &rows));
    out.push_str("<table><tr><th>Partner<th class=n>Files<th class=n>Bytes<th class=n>Again<th class=n>Refused<th class=n>Logins</tr>\n");
    for (name, user) in partners {
        let _ = writeln!(
            out,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}</tr>",
            escape(name),
            user.sent,
            size(user.sent_bytes),
            user.duplicates,
            user.refused,
            user.logins
        );
    }
    out.push_str("</table>\n");
}

fn disclosures(out: &mut String, tally: &Tally) {
    out.push_str("<h2>Disclosures by recipient (45 CFR 164.528)</h2>\n");
    if tally.disclosures().next().is_none() {
        out.push_str("<p class=\"quiet\">Nothing was disclosed.</p>\n");
        return;
    }
    out.push_str(
        "<table><tr><th>Recipient<th class=n>Disclosures<th class=n>In part<th class=n>Bytes<th>First<th>Last</tr>\n",
    );
    for (name, user) in tally.disclosures() {
        let _ = writeln!(
            out,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td>{}<td>{}</tr>",
            escape(name),
            user.pulled,
            user.pulled_in_part,
            size(user.pulled_bytes),
            escape(user.first_pull.as_deref().unwrap_or("")),
            escape(user.last_pull.as_deref().unwrap_or(""))
        );
    }
    out.push_str("</table>\n<p class=\"quiet\">Each one, with date, recipient and file: <code>sealdrop report --disclosures FILE</code>.</p>\n");
}

fn refusals(out: &mut String, tally: &Tally) {
    out.push_str("<h2>Refusals</h2>\n");
    if tally.refusals.is_empty() {
        out.push_str("<p class=\"quiet\">Nothing was refused.</p>\n");
        return;
    }
    out.push_str("<table><tr><th>What<th class=n>How often</tr>\n");
    for (kind, count) in &tally.refusals {
        let _ = writeln!(out, "<tr><td>{}<td class=n>{count}</tr>", escape(kind));
    }
    out.push_str("</table>\n");
}

fn not_picked_up(out: &mut String, unpicked: &Unpicked) {
    out.push_str("<h2>Not picked up</h2>\n");
    if unpicked.count == 0 {
        out.push_str("<p class=\"quiet\">Everything that was received was picked up.</p>\n");
        return;
    }
    out.push_str("<table><tr><th>Received<th>From<th>To<th>File<th class=n>Bytes<th>State</tr>\n");
    for row in &unpicked.first {
        let to: Vec<_> = row.recipients.iter().map(|user| user.as_str()).collect();
        let _ = writeln!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{}<td class=n>{}<td>{}</tr>",
            row.received,
            escape(row.sender.as_str()),
            escape(to.join(", ")),
            escape(&row.path),
            row.size,
            escape(&row.state)
        );
    }
    out.push_str("</table>\n");
    let more = unpicked.count - unpicked.first.len() as u64;
    if more > 0 {
        let _ = writeln!(out, "<p class=\"quiet\">And {more} more.</p>");
    }
}

/// Days, or months if those are too many.
fn bars(tally: &Tally) -> (&'static str, Vec<(String, Day)>) {
    if tally.days.len() <= BARS_MAX {
        return ("day", tally.days.iter().map(|(day, of)| (day.clone(), of.clone())).collect());
    }
    let mut months: Vec<(String, Day)> = Vec::new();
    for (day, of) in &tally.days {
        let month = day.get(..7).unwrap_or(day);
        if months.last().is_none_or(|(last, _)| last != month) {
            months.push((month.to_owned(), Day::default()));
        }
        if let Some((_, sum)) = months.last_mut() {
            sum.received += of.received;
            sum.picked_up += of.picked_up;
            sum.expired += of.expired;
        }
    }
    ("month", months)
}

/// Received, disclosed and expired, side by side.
fn columns(unit: &str, bars: &[(String, Day)]) -> String {
    if bars.is_empty() {
        return "<p class=\"quiet\">Nothing happened.</p>".to_owned();
    }
    let most = bars.iter().flat_map(|(_, day)| [day.received, day.picked_up, day.expired]).max().unwrap_or(0).max(1);
    let (width, height) = (900.0, 200.0);
    let step = (width - 40.0) / bars.len() as f64;
    let bar = (step * 0.26).min(24.0);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {}\" role=\"img\"><title>Files received, disclosed and expired by {unit}</title>\n\
         <line class=\"axis\" x1=\"40\" y1=\"{height}\" x2=\"{width}\" y2=\"{height}\"/>\n\
         <text x=\"36\" y=\"12\" text-anchor=\"end\">{most}</text><text x=\"36\" y=\"{height}\" text-anchor=\"end\">0</text>\n",
        height + 40.0
    );
    // As many labels as can stand beside each other.
    let every = bars.len().div_ceil(12);
    for (at, (name, day)) in bars.iter().enumerate() {
        let left = 40.0 + at as f64 * step + (step - 3.0 * bar) / 2.0;
        for (place, class, what, count) in [
            (0.0, "a", "received", day.received),
            (1.0, "b", "disclosed", day.picked_up),
            (2.0, "c", "expired", day.expired),
        ] {
            let tall = count as f64 / most as f64 * (height - 14.0);
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{bar:.1}\" height=\"{tall:.1}\"><title>{}: {count} {what}</title></rect>",
                left + place * bar,
                height - tall,
                escape(name)
            );
        }
        if at % every == 0 {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                40.0 + (at as f64 + 0.5) * step,
                height + 15.0,
                escape(name.get(5..).filter(|_| unit == "day").unwrap_or(name))
            );
        }
    }
    for (at, (class, what)) in [("a", "received"), ("b", "disclosed"), ("c", "expired")].into_iter().enumerate() {
        let x = 40 + 110 * at;
        let y = height + 26.0;
        let _ = write!(svg, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"10\" height=\"10\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\">{what}</text>", x + 15, y + 9.0);
    }
    svg + "</svg>"
}

/// One bar for each row, lying.
fn lines(title: &str, rows: &[(&str, u64)]) -> String {
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let mut svg = format!("<svg viewBox=\"0 0 900 {}\" role=\"img\"><title>{title}</title>\n", rows.len() * 24 + 4);
    for (at, (name, count)) in rows.iter().enumerate() {
        let y = at * 24 + 4;
        let long = *count as f64 / most as f64 * 620.0;
        let shown: String = name.chars().take(26).collect();
        let _ = writeln!(
            svg,
            "<text x=\"190\" y=\"{0}\" text-anchor=\"end\">{1}</text><rect class=\"a\" x=\"200\" y=\"{y}\" width=\"{long:.1}\" height=\"16\"/><text x=\"{2:.1}\" y=\"{0}\">{count}</text>",
            y + 12,
            escape(&shown),
            206.0 + long
        );
    }
    svg + "</svg>\n"
}

fn escape(text: impl Display) -> String {
    let mut out = String::new();
    for c in text.to_string().chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
