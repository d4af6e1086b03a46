//! `status`: what became of a file, line by line.

use crate::ipc::jail::{Answer, DropStatus, Standing, ToKeeper};
use crate::names::{escaped, hex};
use crate::session::channel::Shared;
use crate::session::reply::{KEEPER_GONE, NO_SUCH_FILE, Outcome};
use crate::vpath::VirtualPath;

pub(super) async fn status_text(shared: &Shared, path: VirtualPath) -> Outcome<Vec<u8>> {
    let tree = &shared.tree;
    let disk = tree.resolve(path.clone());
    if disk == path && tree.shows_sealed(&disk) {
        return Err(NO_SUCH_FILE);
    }
    let staged = if tree.exists(&disk) { None } else { tree.staging.size(&disk).filter(|_| tree.stat(&disk).is_ok()) };
    // Of what is staged it knows whether that waits to be delivered; all else it says is of a file that was there before.
    let told = shared.keeper.ask(ToKeeper::DropStatus { path: disk }).await;
    match (told, staged) {
        (Ok(Answer::DropStatus(status)), staged)
            if staged.is_none() || matches!(status.standing, Standing::Waiting { .. }) =>
        {
            Ok(table(status_lines(&path, &status, shared.admission.user.as_str())))
        }
        (Err(refusal), _) if refusal != NO_SUCH_FILE => Err(refusal),
        (Err(refusal), None) => Err(refusal),
        (Ok(_), None) => Err(KEEPER_GONE),
        (_, Some(size)) => {
            let lines = [("path", escaped(path.as_bytes())), ("state", "not complete: it can be continued".to_owned())];
            Ok(table(lines.into_iter().chain([("size", format!("{size} so far"))])))
        }
    }
}

pub fn table<'a>(lines: impl IntoIterator<Item = (&'a str, String)>) -> Vec<u8> {
    lines.into_iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect::<String>().into_bytes()
}

/// What `user` is told, a fact to a line.
pub fn status_lines(path: &VirtualPath, status: &DropStatus, user: &str) -> Vec<(&'static str, String)> {
    let standing = match status.standing {
        Standing::Waiting { until } => format!("waiting until {until}"),
        Standing::Live => "delivered".to_owned(),
        Standing::Held => "held: kept past its expiry until it is released".to_owned(),
        Standing::Expired => "expired: nobody can read it any more".to_owned(),
        Standing::Destroyed { at } => format!("destroyed {at}"),
        Standing::Removed { at } => format!("removed {at}"),
        Standing::Superseded { at } => format!("superseded {at}"),
    };
    let mut lines = vec![
        ("path", escaped(path.as_bytes())),
        ("state", standing),
        ("received", status.received.to_string()),
        ("size", status.size.to_string()),
        ("sha256", status.sha256.to_string()),
    ];
    lines.extend(status.sums.md5.map(|md5| ("md5", hex(&md5))));
    lines.extend(status.sums.sha1.map(|sha1| ("sha1", hex(&sha1))));
    lines.push(("expires", status.expires.map_or_else(|| "never".to_owned(), |end| end.to_string())));
    lines.extend(status.pickups.map(|most| ("pickups", format!("{most} of each recipient, then it expires"))));
    if let Some(newer) = status.superseded {
        let by = newer.by.map_or_else(String::new, |receipt| format!(" by receipt {receipt}"));
        lines.push(("superseded", format!("{}{by}", newer.at)));
    }
    if let Some(consignment) = status.consignment {
        let said = match consignment.closed {
            Some((at, 0, 0)) => format!("closed {at}: all {} files were received", consignment.files),
            Some((at, missing, different)) => {
                format!("closed {at}: of {} files {missing} missing, {different} different", consignment.files)
            }
            None => format!(
                "{} of {} files are not here yet; closed {}",
                consignment.open, consignment.files, consignment.until
            ),
        };
        lines.push(("consignment", said));
    }
    if matches!(status.standing, Standing::Waiting { .. }) {
        lines.retain(|(name, _)| !["received", "expires", "pickups"].contains(name));
    }
    if status.sender.as_str() != user {
        lines.push(("from", status.sender.to_string()));
    }
    for to in &status.deliveries {
        let mut said = match (to.count, to.last) {
            (0, _) => "not picked up".to_owned(),
            (1, Some(last)) => format!("picked up {last}"),
            (count, Some(last)) => format!("picked up {count} times, last {last}"),
            (count, None) => format!("picked up {count} times"),
        };
        if let Some(at) = to.part.filter(|at| to.last.is_none_or(|last| *at > last)) {
            said.push_str(&format!(", read in part {at}"));
        }
        if let Some(at) = to.removed {
            said.push_str(&format!(", removed from the inbox {at}"));
        }
        lines.push(("to", format!("{}: {said}", to.user)));
    }
    lines
}
