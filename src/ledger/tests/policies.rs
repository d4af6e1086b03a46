//! Policies as they were in force: kept once, found by digest and by time, and pruned when nothing that is left names them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::ledger::policies::InForce;
use crate::ledger::prune::prune;

static CLOCK: AtomicU64 = AtomicU64::new(0);

fn at(text: &str) -> Time {
    let at = Time::parse_rfc3339(text).unwrap();
    CLOCK.store(at.0, Ordering::SeqCst);
    at
}

fn with_clock() -> Options {
    Options { clock: || Time(CLOCK.load(Ordering::SeqCst)), ..options() }
}

/// Puts policy `n` of these files in force; answers how many texts had to be written.
fn put(ledger: &Ledger, n: u8, since: Time, files: &[(&str, &str)]) -> usize {
    let digest = Digest([n; 32]);
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let writes = ledger.policy_writes(digest, files).unwrap();
    let texts = writes.files.iter().map(Vec::len).sum();
    for writes in writes.files {
        ledger.commit(Batch { writes, ..Batch::default() }).unwrap();
    }
    let mut last = vec![Write::InForce(InForce { at: since, digest })];
    last.extend(writes.policy);
    ledger
        .commit(Batch { events: vec![Event::new(since, Kind::PolicyLoaded)], writes: last, ..Batch::default() })
        .unwrap();
    texts
}

fn texts(ledger: &Ledger, n: u8) -> Option<Vec<Option<String>>> {
    let record = ledger.policy_record(&Digest([n; 32])).unwrap()?;
    Some(record.files.iter().map(|(_, hash)| ledger.policy_text(hash).unwrap()).collect())
}

#[test]
fn a_text_is_kept_once_and_what_nothing_names_any_more_is_pruned() {
    let site = Site::new();
    let august = at("2026-08-03T00:00:00Z");
    let (ledger, _) = open(&site.dir(), with_clock()).unwrap();
    assert_eq!(put(&ledger, 1, august, &[("a", "old a"), ("b", "same b")]), 2);
    let later = at("2026-08-20T00:00:00Z");
    assert_eq!(put(&ledger, 2, later, &[("a", "new a"), ("b", "same b"), ("c", "new a")]), 1);
    let october = at("2026-10-05T00:00:00Z");
    assert_eq!(put(&ledger, 3, october, &[("a", "old a")]), 0, "known from the first");
    assert_eq!(put(&ledger, 2, october.plus(DAY), &[("a", "new a"), ("b", "same b"), ("c", "new a")]), 0);

    assert_eq!(ledger.in_force_at(Time(august.0 - 1)).unwrap(), None);
    let digest = |at: Time| ledger.in_force_at(at).unwrap().unwrap().digest.0[0];
    assert_eq!((digest(august), digest(Time(later.0 - 1)), digest(later)), (1, 1, 2));
    assert_eq!((digest(october), digest(Time(u64::MAX))), (3, 2));
    assert_eq!(ledger.in_force(Some(august), 2).unwrap().len(), 2);
    ledger.close();

    prune(&site.dir(), signer(), with_clock(), "2026-10".parse().unwrap()).unwrap().unwrap();
    std::fs::remove_dir_all(site.dir().join("live")).unwrap();
    let (ledger, _) = open(&site.dir(), with_clock()).unwrap();
    assert_eq!(texts(&ledger, 1), None);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        texts(&ledger, 2),
        Some(vec![text("new a"), text("same b"), text("new a")]),
        "it was in force at the cut"
    );
    assert_eq!(texts(&ledger, 3), Some(vec![text("old a")]), "a text of before the cut, named again after it");
    let left: Vec<u8> = ledger.in_force(None, 9).unwrap().iter().map(|one| one.digest.0[0]).collect();
    assert_eq!(left, [2, 3, 2]);
    ledger.close();
}

#[test]
fn a_clock_that_goes_back_changes_no_order() {
    let site = Site::new();
    let ledger = site.open();
    let (one, two) = (Digest([1; 32]), Digest([2; 32]));
    assert_eq!(ledger.coming_into_force(one, noon()).unwrap(), Some(InForce { at: noon(), digest: one }));
    put(&ledger, 1, noon(), &[]);
    assert_eq!(ledger.coming_into_force(one, noon().plus(DAY)).unwrap(), None);
    let early = Time(noon().0 - 5_000);
    let next = ledger.coming_into_force(two, early).unwrap().unwrap();
    assert_eq!(next, InForce { at: Time(noon().0 + 1), digest: two });
    ledger.close();
}

#[test]
fn a_policy_of_many_large_files_needs_no_batch_that_is_too_large() {
    let site = Site::new();
    let ledger = site.open();
    let large: Vec<(String, String)> = (0..12)
        .map(|n| (format!("{n}.toml"), format!("{n}").repeat(1 << 20).chars().take(1 << 20).collect()))
        .collect();
    let writes = ledger.policy_writes(Digest([1; 32]), large).unwrap();
    assert!(writes.files.len() > 3);
    for writes in writes.files {
        ledger.commit(Batch { writes, ..Batch::default() }).unwrap();
    }
    ledger.commit(Batch { writes: writes.policy.into_iter().collect(), ..Batch::default() }).unwrap();
    assert!(texts(&ledger, 1).unwrap().iter().all(|text| text.as_ref().is_some_and(|text| text.len() == 1 << 20)));
    ledger.close();
}
