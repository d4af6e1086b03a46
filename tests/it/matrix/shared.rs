//! What is tried in a shared folder, here and with OpenSSH's server. What there has to be is put there by OpenSSH's
//! `sftp`, and it looks at the end: so only what the client itself did is the client's.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::clients::Client;
use super::{Tried, done, done_with, of, of_file, of_tree};
use crate::run::Ran;
use crate::site::content;
use crate::user::User;

/// A moment that no clock shows by itself: 2020-09-13.
const MOMENT: u64 = 1_600_000_000;

pub fn tried(client: &Client, user: User<'_>) -> Vec<Tried> {
    let site = user.site;
    let (long, short) = (content("a long study ", 300_001), content("a short study ", 70_000));
    for (name, bytes) in [("long", &long[..]), ("short", &short), ("half", &long[..150_000]), ("empty", b"")] {
        site.file(name, bytes);
    }
    stamp(&site.file("timed", &short));
    make_tree(&site.work().join("tree"));
    fs::create_dir(site.work().join("back")).expect("a local folder");
    user.sftp(
        "put long /shared/there\nput long /shared/over\nput half /shared/half\nput short /shared/from\n\
         put short /shared/onto\nput long /shared/taken\nput -p timed /shared/stamped\nmkdir /shared/into\n\
         mkdir /shared/trees\nput -r tree /shared/trees",
    )
    .ok();

    let put_empty = (client.put)(&user, "empty", "/shared/empty");
    let put = (client.put)(&user, "long", "/shared/put");
    let over = (client.put)(&user, "short", "/shared/over");
    let get = (client.get)(&user, "/shared/there", "got");
    let resumed = client.resume.map(|resume| resume(&user, "long", "/shared/half"));
    let renamed = client.rename.map(|rename| rename(&user, "/shared/from", "/shared/to"));
    let replaced = client.rename.map(|rename| rename(&user, "/shared/onto", "/shared/taken"));
    let put_tree = client.put_tree.map(|put| put(&user, "tree", "/shared/into"));
    let got_tree = client.get_tree.map(|get| get(&user, "/shared/trees/tree", "back"));
    let put_timed = client.put_with_times.map(|put| put(&user, "timed", "/shared/timed"));
    let got_timed = client.get_with_times.map(|get| get(&user, "/shared/stamped", "stamped"));

    user.sftp(
        "-get /shared/empty see-empty\n-get /shared/put see-put\n-get /shared/over see-over\n-get /shared/half see-half\n\
         -get /shared/from see-from\n-get /shared/to see-to\n-get /shared/onto see-onto\n-get /shared/taken see-taken\n\
         -get -p /shared/timed see-timed\n-get -r /shared/into see-into",
    )
    .ok();
    let at = |name: &str| site.work().join(name);
    let see = |ran: &Ran, name: &str| format!("{}, {}", done(ran), of_file(&at(name)));
    let tree = of_tree(&at("tree"));
    let mut all = vec![
        Tried::new("put", "an empty file", see(&put_empty, "see-empty"), done_with(b"")),
        Tried::new("put", "a file", see(&put, "see-put"), done_with(&long)),
        Tried::new("get", "a file", see(&get, "got"), done_with(&long)),
        Tried::new("overwrite", "a longer file in a shared folder", see(&over, "see-over"), done_with(&short)),
    ];
    if let Some(resumed) = resumed {
        all.push(Tried::new("resume", "a file that is half there", see(&resumed, "see-half"), done_with(&long)));
    }
    if let Some((renamed, replaced)) = renamed.zip(replaced) {
        all.push(Tried::new("rename", "a file", see(&renamed, "see-to"), done_with(&short)));
        all.push(Tried::new("rename", "the old name", of_file(&at("see-from")), "nothing"));
        let both = format!("{}, and {}", see(&replaced, "see-taken"), of_file(&at("see-onto")));
        all.push(Tried::compared("rename", "onto a name that is taken", both));
    }
    if let Some((put, got)) = put_tree.zip(got_tree) {
        let there = format!("{}, {}", done(&put), of_tree(&at("see-into/tree")));
        all.push(Tried::new("tree", "put", there, format!("done, {tree}")));
        all.push(Tried::new(
            "tree",
            "get",
            format!("{}, {}", done(&got), of_tree(&at("back/tree"))),
            format!("done, {tree}"),
        ));
    }
    if let Some(put) = put_timed {
        all.push(Tried::new(
            "times",
            "put",
            format!("{}, {}", see(&put, "see-timed"), time(&at("see-timed"))),
            timed(&short),
        ));
    }
    if let Some(got) = got_timed {
        all.push(Tried::new(
            "times",
            "get",
            format!("{}, {}", see(&got, "stamped"), time(&at("stamped"))),
            timed(&short),
        ));
    }
    all
}

/// OpenSSH's server has none to tell.
pub fn hashed(client: &Client, user: User<'_>) -> Vec<Tried> {
    let Some(hash) = client.hash else { return Vec::new() };
    let digest = sealdrop::names::hex(&<sha2::Sha256 as sha2::Digest>::digest(content("a long study ", 300_001)));
    let ran = hash(&user, "/shared/there");
    let told = String::from_utf8_lossy(&ran.stdout).contains(&digest);
    vec![Tried::new("hash", "SHA-256", format!("{}, {told}", done(&ran)), "done, true")]
}

fn timed(bytes: &[u8]) -> String {
    format!("{}, of {MOMENT}", done_with(bytes))
}

fn time(path: &Path) -> String {
    let Ok(modified) = fs::metadata(path).and_then(|meta| meta.modified()) else { return of(b"") };
    format!("of {}", modified.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs())
}

fn stamp(path: &Path) {
    let file = fs::OpenOptions::new().append(true).open(path).expect("a local file");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(MOMENT)).expect("a time");
}

/// Blanks, letters that are not ASCII, a folder in a folder, and one with nothing in it.
pub fn make_tree(at: &Path) {
    fs::create_dir_all(at.join("sub folder/deeper")).expect("a local folder");
    fs::create_dir(at.join("empty")).expect("a local folder");
    for (name, bytes) in [
        ("a.bin", content("a", 70_000)),
        ("sub folder/b c.bin", content("b", 10)),
        ("sub folder/deeper/ünï.txt", Vec::new()),
    ] {
        fs::write(at.join(name), bytes).expect("a local file");
    }
}
