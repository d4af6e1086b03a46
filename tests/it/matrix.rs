//! Each client people use, and what works with it: the table of docs/clients.md, found out here. The same words go to
//! OpenSSH's own server, and what a client sees and leaves behind must be the same in a shared folder. In a drop and
//! after a lost connection the two are different on purpose; there it is the promises that are held against the outcome.
//!
//! `SEALDROP_WRITE_DOCS=1 scripts/test matrix::` writes the rows with the versions found; otherwise a row that is not as
//! the document says is a failure, whatever the version.

mod aborted;
mod clients;
mod dropped;
mod shared;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::reference::Reference;
use crate::run::Ran;
use crate::site::Site;
use clients::Client;

pub const COLUMNS: [&str; 9] = ["put", "get", "resume", "overwrite", "rename", "tree", "times", "hash", "abort"];

/// One thing that was tried.
pub struct Tried {
    column: &'static str,
    what: &'static str,
    seen: String,
    /// What it takes for a yes; nothing where it only has to be as with OpenSSH's server.
    wanted: Option<String>,
}

impl Tried {
    fn new(column: &'static str, what: &'static str, seen: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { column, what, seen: seen.into(), wanted: Some(wanted.into()) }
    }

    fn compared(column: &'static str, what: &'static str, seen: impl Into<String>) -> Self {
        Self { column, what, seen: seen.into(), wanted: None }
    }
}

/// Tries everything and holds the row against the document.
fn row(client: &Client) {
    if !(client.here)() {
        return;
    }
    let site = Site::new();
    let mut problems = Vec::new();
    let ours = shared::tried(client, site.partner());
    if client.sftp
        && let Some(reference) = Reference::new()
    {
        for (ours, theirs) in ours.iter().zip(shared::tried(client, reference.user())) {
            assert_eq!((ours.column, ours.what), (theirs.column, theirs.what));
            if ours.seen != theirs.seen {
                let said = format!("{}: here {}, with OpenSSH {}", ours.what, ours.seen, theirs.seen);
                problems.push((ours.column, said));
            }
        }
    }
    let hashed = shared::hashed(client, site.partner());
    let all = ours.into_iter().chain(hashed).chain(dropped::tried(client, &site)).chain(aborted::tried(client, &site));
    for tried in all {
        if let Some(wanted) = tried.wanted
            && tried.seen != wanted
        {
            problems.push((tried.column, format!("{}: {}, not {wanted}", tried.what, tried.seen)));
        }
    }
    let mut unexpected = problems.clone();
    unexpected.retain(|(column, _)| !client.fails.iter().any(|(fails, _)| fails == column));
    assert!(unexpected.is_empty(), "{}: {unexpected:#?}", client.name);
    let cells = COLUMNS.map(|column| cell(client, column, problems.iter().any(|(wrong, _)| *wrong == column)));
    table::hold(client.name, &(client.version)(), &cells);
}

fn cell(client: &Client, column: &str, wrong: bool) -> String {
    if wrong {
        let why = client.fails.iter().find(|(fails, _)| *fails == column).map_or("", |(_, why)| why);
        return format!("no ({why})");
    }
    let can = match column {
        "resume" => client.resume.is_some(),
        "rename" => client.rename.is_some(),
        "tree" => client.put_tree.is_some(),
        "times" => client.put_with_times.is_some() || client.get_with_times.is_some(),
        "hash" => client.hash.is_some(),
        _ => true,
    };
    match column {
        _ if !can => "–".to_owned(),
        "times" if client.put_with_times.is_none() => "yes (get)".to_owned(),
        "times" if client.get_with_times.is_none() => "yes (put)".to_owned(),
        "hash" => format!("yes ({})", client.asks),
        _ => "yes".to_owned(),
    }
}

// --- what is seen ---------------------------------------------------------------------------------------------------

fn done(ran: &Ran) -> &'static str {
    if ran.status.success() { "done" } else { "refused" }
}

/// Done, and with these bytes there.
fn done_with(bytes: &[u8]) -> String {
    format!("done, {}", of(bytes))
}

fn of(bytes: &[u8]) -> String {
    let digest = sealdrop::names::hex(&Sha256::digest(bytes));
    format!("{} bytes {}", bytes.len(), &digest[..16])
}

fn of_file(path: &Path) -> String {
    fs::read(path).map_or_else(|_| "nothing".to_owned(), |bytes| of(&bytes))
}

/// Names and contents below `dir`.
fn of_tree(dir: &Path) -> String {
    let mut all = BTreeMap::new();
    for path in crate::site::everything_below(dir) {
        let name = path.strip_prefix(dir).expect("below").display().to_string();
        all.insert(name, if path.is_dir() { "a folder".to_owned() } else { of_file(&path) });
    }
    format!("{all:?}")
}

// --- rows -----------------------------------------------------------------------------------------------------------

macro_rules! rows {
    ($($name:ident => $client:ident,)*) => {
        /// In the order of the table.
        const ALL: &[&Client] = &[$(&clients::$client,)*];

        $(
            #[test]
            fn $name() {
                row(&clients::$client);
            }
        )*
    };
}

rows! {
    openssh_sftp => OPENSSH_SFTP,
    openssh_scp => OPENSSH_SCP,
    openssh_scp_o => OPENSSH_SCP_O,
    lftp => LFTP,
    rclone => RCLONE,
    psftp => PSFTP,
    pscp => PSCP,
    curl => CURL,
    paramiko => PARAMIKO,
    asyncssh => ASYNCSSH,
    node_ssh2 => NODE,
    sshfs => SSHFS,
    filezilla => FILEZILLA,
}

#[test]
fn the_table_has_every_client_and_no_other() {
    let names: Vec<&str> = ALL.iter().map(|client| client.name).collect();
    assert_eq!(table::names(), names);
}
