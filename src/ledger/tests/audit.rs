//! The log against hands in its databases: whatever is done to them while nobody looks, `verify` says which entry is
//! wrong, if need be by a checkpoint that was kept elsewhere. Those who do it here know the format as well as we do.

use super::*;
use crate::ledger::checkpoint::Claim;
use crate::ledger::database::{Changes, Database};
use crate::ledger::merkle::{Hash, leaf_hash};
use crate::ledger::note::Note;
use crate::ledger::signers::AllowedSigners;
use crate::ledger::verify::{Outside, Problem, Report, Trust, verify};

fn signing() -> Options {
    Options { checkpoint_every: Some(Duration::ZERO), ..options() }
}

fn trust() -> Trust {
    let signers = AllowedSigners::parse(&signer().allowed_signer().unwrap()).unwrap();
    Trust { server: "drop.example".to_owned(), signers, now: noon() }
}

fn report(ledger: &mut Ledger, outside: &[Outside]) -> Report {
    verify(ledger, &trust(), outside, |_| ()).unwrap()
}

/// What somebody else keeps.
fn kept(ledger: &Ledger) -> Outside {
    let note = Note::parse(&ledger.checkpoint().unwrap().note).unwrap();
    Outside { name: "kept elsewhere".to_owned(), head: Claim::of_note(&note).unwrap().head }
}

/// Eight uploads, each in a group of its own: two events and a checkpoint each.
struct Log {
    site: Site,
    kept: Outside,
}

const EVENTS: usize = 1;
const CHECKPOINTS: usize = 5;

impl Log {
    fn new() -> Self {
        let site = Site::new();
        let kept = fill(&site.dir(), 1..=8);
        Self { site, kept }
    }

    fn change(&self, change: impl FnOnce(&mut Month)) {
        let trees = &["meta", "events", "nodes", "receipts", "receipt-events", "checkpoints", "cosignatures", "names"];
        let database = Database::open(&self.site.dir().join("epoch-2026-11"), trees, 1 << 20).unwrap();
        let mut month = Month { database, changes: Changes::default() };
        change(&mut month);
        month.database.apply(&month.changes);
        month.database.flush().unwrap();
    }

    /// What is found without and with the checkpoint from elsewhere.
    fn found(&self) -> (Vec<Problem>, Vec<Problem>) {
        // Nothing is added while it is looked at: the ledger remembers where the log was, and would sign that.
        let (mut ledger, _) = open(&self.site.dir(), options()).unwrap();
        let alone = report(&mut ledger, &[]).problems;
        let both = report(&mut ledger, std::slice::from_ref(&self.kept)).problems;
        ledger.close();
        (alone, both)
    }
}

struct Month {
    database: Database,
    changes: Changes,
}

impl Month {
    fn event(&self, number: u64) -> (Hash, String) {
        let value = self.database.get(EVENTS, &number.to_be_bytes()).unwrap().unwrap();
        let (leaf, json) = value.split_first_chunk::<32>().unwrap();
        (*leaf, String::from_utf8(json.to_vec()).unwrap())
    }

    fn put(&mut self, number: u64, leaf: Hash, json: &str) {
        self.changes.set(EVENTS, number.to_be_bytes().to_vec(), Some([&leaf[..], json.as_bytes()].concat()));
    }

    fn remove(&mut self, tree: usize, number: u64) {
        self.changes.set(tree, number.to_be_bytes().to_vec(), None);
    }
}

fn fill(dir: &Path, numbers: std::ops::RangeInclusive<u8>) -> Outside {
    let (ledger, _) = open(dir, signing()).unwrap();
    for n in numbers {
        ledger.commit(upload(drop_number(n))).unwrap();
    }
    let kept = kept(&ledger);
    ledger.close();
    kept
}

#[test]
fn a_log_that_nobody_touched_holds() {
    let log = Log::new();
    let (mut ledger, _) = open(&log.site.dir(), signing()).unwrap();
    let report = report(&mut ledger, std::slice::from_ref(&log.kept));
    assert_eq!(report.problems, vec![]);
    assert_eq!((report.events, report.receipts, report.checkpoints, report.signed), (16, 8, 8, 16));
    assert_eq!(report.root, Some(ledger.head().root));
    assert_eq!(ledger.last_checkpoint().unwrap().unwrap().size, 16);
}

#[test]
fn a_changed_event_is_named() {
    let log = Log::new();
    log.change(|month| {
        let (leaf, json) = month.event(5);
        month.put(5, leaf, &json.replace("\"user\":\"acme\"", "\"user\":\"evil\""));
    });
    assert_eq!(log.found().0, [Problem::Changed { event: 5 }]);
}

#[test]
fn a_changed_event_with_its_hash_is_found_between_the_checkpoints_around_it() {
    let log = Log::new();
    log.change(|month| {
        let json = month.event(5).1.replace("\"user\":\"acme\"", "\"user\":\"evil\"");
        month.put(5, leaf_hash(json.as_bytes()), &json);
    });
    let source = "a checkpoint of its own".to_owned();
    let found = log.found();
    assert_eq!(found.0, [Problem::OtherLog { source, size: 6, since: 4 }]);
    assert!(
        found
            .1
            .iter()
            .any(|problem| matches!(problem, Problem::OtherLog { source, size: 16, .. } if source == "kept elsewhere"))
    );
}

#[test]
fn a_dropped_event_is_named() {
    let log = Log::new();
    log.change(|month| month.remove(EVENTS, 7));
    assert_eq!(log.found().0, [Problem::Missing { from: 7, to: 8 }]);
}

#[test]
fn reordered_events_are_named() {
    let log = Log::new();
    log.change(|month| {
        let (a, b) = (month.event(4), month.event(9));
        month.put(4, b.0, &b.1);
        month.put(9, a.0, &a.1);
    });
    let found = log.found().0;
    assert!(found.contains(&Problem::Misplaced { event: 4, says: 9 }), "{found:?}");
    assert!(found.contains(&Problem::Misplaced { event: 9, says: 4 }), "{found:?}");
}

#[test]
fn a_cut_off_end_is_found_by_the_checkpoint_kept_elsewhere() {
    let log = Log::new();
    log.change(|month| {
        (12..16).for_each(|event| month.remove(EVENTS, event));
        (12..16).for_each(|event| month.remove(CHECKPOINTS, event));
    });
    let (alone, both) = log.found();
    assert_eq!(alone, vec![], "nobody can tell by the log itself");
    assert_eq!(both, [Problem::Short { source: "kept elsewhere".to_owned(), size: 16, has: 12 }]);
}

#[test]
fn a_receipt_that_is_another_is_named() {
    let log = Log::new();
    log.change(|month| {
        const RECEIPTS: usize = 3;
        let mut record: ReceiptRecord = month.database.get_record(RECEIPTS, &[3; 16]).unwrap().unwrap();
        record.text = record.text.replace("size 3", "size 4");
        let bytes = postcard::to_allocvec(&record).unwrap();
        month.changes.set(RECEIPTS, vec![3; 16], Some(bytes));
        month.changes.set(RECEIPTS, vec![4; 16], None);
    });
    assert_eq!(
        log.found().0,
        [
            Problem::ReceiptChanged { event: 5, receipt: ReceiptId([3; 16]) },
            Problem::ReceiptMissing { event: 7, receipt: ReceiptId([4; 16]) }
        ]
    );
}

#[test]
fn a_paper_that_is_another_is_named_and_an_older_one_may_be_gone() {
    let site = Site::new();
    let (ledger, _) = open(&site.dir(), signing()).unwrap();
    let disclosed = |bytes| {
        let facts = DisclosureFacts {
            drop: DropId([1; 16]),
            sha256: Digest([1; 32]),
            size: 3,
            sender: user("acme"),
            recipient: user("lab"),
            key: None,
            address: [127, 0, 0, 1].into(),
            path: path("/inbox/acme/a.dcm"),
            bytes,
            whole: bytes == 3,
            at: noon(),
            policy: Digest([9; 32]),
        };
        let mut batch = event(Kind::DownloadEnded);
        batch.writes.push(Write::Paper { event: 0, facts: PaperFacts::Disclosure(facts) });
        ledger.commit(batch).unwrap();
    };
    disclosed(1);
    disclosed(3);
    ledger.close();
    let papers = || {
        let (mut ledger, _) = open(&site.dir(), options()).unwrap();
        let report = report(&mut ledger, &[]);
        ledger.close();
        (report.papers, report.problems)
    };
    assert_eq!(papers(), (1, vec![]), "the newest is kept");
    let database = Database::open(&site.dir().join("live"), live::TREES, 1 << 20).unwrap();
    let (key, mut paper) = database
        .range(live::PAPERS, &[])
        .next()
        .unwrap()
        .map(|(key, value)| (key.to_vec(), postcard::from_bytes::<Paper>(&value).unwrap()))
        .unwrap();
    let mut change = |text: String| {
        paper.text = text;
        let mut changes = Changes::default();
        changes.set(live::PAPERS, key.clone(), Some(postcard::to_allocvec(&paper).unwrap()));
        database.apply(&changes);
        database.flush().unwrap();
    };
    change("another".to_owned());
    drop(database);
    assert_eq!(papers(), (1, vec![Problem::PaperChanged { event: 1 }]));
}

/// The directory put back to what it was is consistent in itself.
#[test]
fn an_older_copy_of_the_whole_ledger_is_found_by_the_checkpoint_kept_elsewhere() {
    let site = Site::new();
    fill(&site.dir(), 1..=3);
    let older = site.dir().with_file_name("older");
    copy_dir(&site.dir(), &older);
    let kept = fill(&site.dir(), 4..=6);
    std::fs::remove_dir_all(site.dir()).unwrap();
    copy_dir(&older, &site.dir());
    let log = Log { site, kept };
    let (alone, both) = log.found();
    assert_eq!(alone, vec![]);
    assert_eq!(both, [Problem::Short { source: "kept elsewhere".to_owned(), size: 12, has: 6 }]);

    // And after it has grown past what it was, with another story and the same key.
    fill(&log.site.dir(), 11..=16);
    let (alone, both) = log.found();
    assert_eq!(alone, vec![]);
    assert_eq!(both, [Problem::OtherLog { source: "kept elsewhere".to_owned(), size: 12, since: 10 }]);
}

/// Somebody who has not the key cannot make a checkpoint of what it wrote.
#[test]
fn a_forged_checkpoint_is_named() {
    let log = Log::new();
    log.change(|month| {
        let mut forged: Checkpoint = month.database.get_record(CHECKPOINTS, &7_u64.to_be_bytes()).unwrap().unwrap();
        let other = Signer::new("drop.example", keygen_other()).unwrap();
        let head = Claim::parse(&forged.body).unwrap().head;
        forged = Checkpoint::of(&other, &head).unwrap();
        month.changes.set(CHECKPOINTS, 7_u64.to_be_bytes().to_vec(), Some(postcard::to_allocvec(&forged).unwrap()));
    });
    assert_eq!(log.found().0, [Problem::Signature { size: 8 }]);
}

fn keygen_other() -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[8; 32])), "").unwrap()
}

#[test]
fn the_last_event_is_covered_by_a_checkpoint_when_the_ledger_is_closed_and_when_nothing_follows() {
    let site = Site::new();
    let every = |every| Options { checkpoint_every: Some(every), ..options() };
    let (ledger, _) = open(&site.dir(), every(Duration::from_secs(3600))).unwrap();
    ledger.commit(event(Kind::Listed)).unwrap();
    ledger.commit(event(Kind::Listed)).unwrap();
    ledger.close();
    let (ledger, found) = open(&site.dir(), every(Duration::from_millis(50))).unwrap();
    assert_eq!(found, vec![]);
    assert_eq!(ledger.last_checkpoint().unwrap().map(|last| last.size), Some(2));
    for size in 3..=5 {
        ledger.commit(event(Kind::Listed)).unwrap();
        // Nobody commits anything more: it comes by itself.
        while ledger.last_checkpoint().unwrap().map(|last| last.size) != Some(size) {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_cosignature_is_read_with_its_checkpoint() {
    let site = Site::new();
    let (mut ledger, _) = open(&site.dir(), signing()).unwrap();
    ledger.commit(event(Kind::Listed)).unwrap();
    ledger.commit(event(Kind::Listed)).unwrap();
    let line = "\u{2014} witness.example AAAAAAAA".to_owned();
    let writes = vec![Write::Cosigned { size: 1, line: line.clone() }];
    ledger.commit(Batch { writes, ..Batch::default() }).unwrap();
    let all = Ledger::checkpoints(&ledger, 0, 10).unwrap();
    assert!(all[0].note.ends_with(&format!("\n{line}\n")));
    assert!(!all[1].note.contains("witness"));
    assert_eq!(report(&mut ledger, &[]).problems, vec![]);
}

/// A drop that expired, and the certificate of it.
fn certified(ledger: &Ledger, n: u8) {
    let record = drop_number(n);
    ledger.commit(upload(record.clone())).unwrap();
    ledger.commit(state(n, DropState::Expiring { since: noon() })).unwrap();
    ledger.commit(state(n, DropState::Expired { at: noon() })).unwrap();
    ledger.commit(certificate(&record)).unwrap();
}

#[test]
fn a_certificate_that_is_removed_changed_or_swapped_is_named() {
    let site = Site::new();
    let (ledger, _) = open(&site.dir(), signing()).unwrap();
    certified(&ledger, 1);
    certified(&ledger, 2);
    ledger.close();
    // Two events of the upload and two of its end, then the certificate's.
    let events = [4, 9];
    let found = || {
        let (mut ledger, _) = open(&site.dir(), options()).unwrap();
        let report = report(&mut ledger, &[]);
        ledger.close();
        (report.papers, report.problems)
    };
    let kept = {
        let (ledger, _) = open(&site.dir(), options()).unwrap();
        let kept = [1, 2].map(|n| ledger.certificate(&DropId([n; 16])).unwrap().unwrap());
        ledger.close();
        kept
    };
    let put = |certificates: [Option<CertificateRecord>; 2]| {
        let database = Database::open(&site.dir().join("live"), live::TREES, 1 << 20).unwrap();
        let mut changes = Changes::default();
        for (n, certificate) in (1..).zip(certificates) {
            let bytes = certificate.map(|certificate| postcard::to_allocvec(&certificate).unwrap());
            changes.set(live::CERTIFICATES, vec![n; 16], bytes);
        }
        database.apply(&changes);
        database.flush().unwrap();
    };
    let [one, two] = kept.clone().map(Some);
    assert_eq!(found(), (2, vec![]));

    put([None, two.clone()]);
    let missing = Problem::CertificateMissing { event: events[0], drop: DropId([1; 16]) };
    assert_eq!(found(), (1, vec![missing]));

    let mut changed = kept[1].clone();
    changed.text = changed.text.replace("rule expiry", "rule shred");
    put([one.clone(), Some(changed)]);
    assert_eq!(found(), (2, vec![Problem::PaperChanged { event: events[1] }]));

    let mut unsigned = kept[1].clone();
    unsigned.signature.clone_from(&kept[0].signature);
    put([one.clone(), Some(unsigned)]);
    assert_eq!(found(), (2, vec![Problem::PaperSignature { event: events[1] }]));

    put([two.clone(), one.clone()]);
    assert_eq!(found(), (2, events.map(|event| Problem::PaperChanged { event }).to_vec()));

    put([one, two]);
    assert_eq!(found(), (2, vec![]));
}
