//! Hands in the files: what was acknowledged cannot be taken back, changed or mixed with another time, without the
//! ledger refusing to open and saying why.

use super::*;

/// A ledger of three batches, and a copy of it as it was after two.
fn ledger() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let (older, dir) = (scratch.path().join("older"), scratch.path().join("ledger"));
    let (ledger, _) = open(&dir, options()).unwrap();
    ledger.commit(upload(drop_number(1))).unwrap();
    ledger.commit(upload(drop_number(2))).unwrap();
    ledger.close();
    copy_dir(&dir, &older);
    let (ledger, _) = open(&dir, options()).unwrap();
    ledger.commit(upload(drop_number(3))).unwrap();
    ledger.close();
    (scratch, older, dir)
}

fn replace(dir: &Path, part: &str, from: &Path) {
    std::fs::remove_dir_all(dir.join(part)).unwrap();
    copy_dir(&from.join(part), &dir.join(part));
}

fn segment(dir: &Path) -> PathBuf {
    let mut segments: Vec<_> = std::fs::read_dir(dir.join("journal")).unwrap().map(|e| e.unwrap().path()).collect();
    segments.sort();
    segments.pop().unwrap()
}

fn refusal(dir: &Path) -> OpenError {
    let error = match open(dir, options()) {
        Ok((_, found)) => panic!("it opened: {found:?}"),
        Err(error) => error,
    };
    assert!(error.hint().is_some(), "{error}");
    error
}

#[test]
fn an_older_journal_under_newer_databases_is_refused() {
    let (_scratch, older, dir) = ledger();
    replace(&dir, "journal", &older);
    assert!(matches!(refusal(&dir), OpenError::Ahead { held: 3, written: 2, .. }));
}

#[test]
fn a_flipped_bit_in_an_acknowledged_frame_is_refused_wherever_it_is() {
    let (_scratch, _, dir) = ledger();
    let whole = std::fs::read(segment(&dir)).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (0..end).step_by(97) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        std::fs::write(segment(&dir), &flipped).unwrap();
        let error = refusal(&dir);
        assert!(matches!(error, OpenError::JournalDamaged { .. } | OpenError::Journal(_)), "byte {at}: {error}");
    }
    std::fs::write(segment(&dir), &whole).unwrap();
    open(&dir, options()).unwrap();
}

#[test]
fn a_flipped_bit_is_refused_even_when_no_database_is_left_to_tell() {
    let (_scratch, _, dir) = ledger();
    std::fs::remove_dir_all(dir.join("live")).unwrap();
    std::fs::remove_dir_all(dir.join("epoch-2026-11")).unwrap();
    let mut bytes = std::fs::read(segment(&dir)).unwrap();
    // Somewhere in the first frame: the later ones say that it was settled.
    let at = bytes.windows(9).position(|w| w == b"committed").unwrap();
    bytes[at] ^= 1;
    std::fs::write(segment(&dir), bytes).unwrap();
    assert!(matches!(refusal(&dir), OpenError::JournalDamaged { frame: 0, .. }));
}

#[test]
fn a_cut_off_journal_is_refused() {
    let (_scratch, _, dir) = ledger();
    let mut bytes = std::fs::read(segment(&dir)).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::write(segment(&dir), &bytes[..end - 10]).unwrap();
    assert!(matches!(refusal(&dir), OpenError::JournalDamaged { frame: 2, .. }));
    // Made to look as if it had never been written.
    let last = bytes.windows(4).rposition(|four| four == b"SJF1").unwrap();
    bytes[last..].fill(0);
    std::fs::write(segment(&dir), &bytes).unwrap();
    assert!(matches!(refusal(&dir), OpenError::Ahead { held: 3, written: 2, .. }));
    std::fs::remove_dir_all(dir.join("journal")).unwrap();
    assert!(matches!(refusal(&dir), OpenError::JournalMissing));
}

#[test]
fn a_database_of_another_ledger_is_refused() {
    let (_scratch, _, dir) = ledger();
    let (_other_scratch, _, other) = ledger();
    replace(&dir, "live", &other);
    assert!(matches!(refusal(&dir), OpenError::Foreign(name) if name == "live"));
}

#[test]
fn a_journal_that_tells_another_story_of_the_same_length_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, other) = (scratch.path().join("ledger"), scratch.path().join("other"));
    let (ledger, _) = open(&dir, options()).unwrap();
    ledger.commit(upload(drop_number(1))).unwrap();
    ledger.close();
    copy_dir(&dir, &other);
    for (dir, n) in [(&dir, 2), (&other, 3)] {
        let (ledger, _) = open(dir, options()).unwrap();
        ledger.commit(upload(drop_number(n))).unwrap();
        ledger.close();
    }
    replace(&dir, "journal", &other);
    assert!(matches!(refusal(&dir), OpenError::Disagree(_)));
}

#[test]
fn a_newer_layout_is_refused() {
    let (_scratch, _, dir) = ledger();
    std::fs::write(dir.join("layout"), "sealdrop ledger 2\n").unwrap();
    assert!(matches!(refusal(&dir), OpenError::Layout(layout) if layout == "sealdrop ledger 2"));
}

#[test]
fn an_older_database_under_the_journal_is_only_brought_up_to_it() {
    let (_scratch, older, dir) = ledger();
    replace(&dir, "live", &older);
    let (ledger, found) = open(&dir, options()).unwrap();
    assert_eq!(found, [Recovery::Replayed { database: "live".to_owned(), batches: 1 }]);
    assert_eq!(ledger.live_drops().unwrap(), 3);
}
