//! What is tried in a drop: delivered, receipted, never lost by a second one, and under the name that it has at the end.

use std::collections::BTreeSet;
use std::fs;

use sealdrop::cli::demo::place::RADIOLOGY;

use super::clients::Client;
use super::{Tried, done, done_with, of, of_file};
use crate::site::{Site, content, everything_below};

/// The local files are those of `shared`.
pub fn tried(client: &Client, site: &Site) -> Vec<Tried> {
    let user = site.partner();
    let (long, short) = (content("a long study ", 300_001), content("a short study ", 70_000));
    let first = (client.put)(&user, "long", "/radiology/one.dcm");
    let second = (client.put)(&user, "short", "/radiology/one.dcm");
    let renamed = client.rename.map(|rename| {
        let put = (client.put)(&user, "long", "/radiology/two.dcm.filepart");
        assert!(put.status.success(), "{}", put.told());
        let early = site.recipient(RADIOLOGY).delivered();
        assert!(!early.iter().any(|name| name.starts_with("two.dcm")), "delivered before it has its name: {early:?}");
        rename(&user, "/radiology/two.dcm.filepart", "/radiology/two.dcm")
    });
    let tree = client.put_tree.map(|put| put(&user, "tree", "/radiology"));

    site.recipient(RADIOLOGY).sftp("get -r /inbox/partner delivered").ok();
    let at = site.work().join("delivered");
    let versions: BTreeSet<String> = fs::read_dir(&at)
        .expect("what was delivered")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("one.dcm"))
        .map(|entry| of_file(&entry.path()))
        .collect();
    let mut all = vec![Tried::new(
        "put",
        "into a drop",
        format!("{}, {}", done(&first), versions.contains(&of(&long))),
        "done, true",
    )];
    let both = BTreeSet::from([of(&long), of(&short)]);
    let seen = format!("{}, {versions:?}", done(&second));
    all.push(Tried::new("overwrite", "in a drop, both versions", seen, format!("done, {both:?}")));
    let receipt = user.verified_receipt("/radiology/one.dcm");
    all.push(Tried::new("put", "a receipt", receipt.contains("70000").to_string(), "true"));
    // The sender may not open its own drop, but a command answers from the ledger.
    if let Some(hash) = client.hash
        && client.asks.contains("sha256sum")
    {
        let digest = sealdrop::names::hex(&<sha2::Sha256 as sha2::Digest>::digest(&short));
        let said = hash(&user, "/radiology/one.dcm").stdout;
        let told = String::from_utf8_lossy(&said).contains(&digest);
        all.push(Tried::new("hash", "of a drop, for its sender", told.to_string(), "true"));
    }
    if let Some(renamed) = renamed {
        let seen = format!("{}, {}", done(&renamed), of_file(&at.join("two.dcm")));
        all.push(Tried::new("rename", "a temp name to the final one, in a drop", seen, done_with(&long)));
    }
    if let Some(tree) = tree {
        // A folder without a file is nothing that can be delivered.
        let files = |dir: &std::path::Path| -> BTreeSet<String> {
            let all = everything_below(dir).into_iter().filter(|path| path.is_file());
            all.map(|path| format!("{} {}", path.strip_prefix(dir).expect("below").display(), of_file(&path))).collect()
        };
        let (seen, wanted) = (files(&at.join("tree")), files(&site.work().join("tree")));
        all.push(Tried::new("tree", "into a drop", format!("{}, {seen:?}", done(&tree)), format!("done, {wanted:?}")));
    }
    all
}
