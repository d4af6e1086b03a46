//! The keeper dies at each named place of a commit, of a sweep and of a removal (`keeper::crash`, in debug builds): what the restart
//! finds is either as it was before, or done, never something between; and whoever was refused an OK can go on.

use std::path::PathBuf;

use sealdrop::cli::demo::place::RADIOLOGY;

use crate::site::{Site, content, everything_below};
use crate::user::User;

/// Places of a commit, in order; from `RECORDED` on, the drop is in the ledger and stands.
pub const COMMIT: [&str; 7] = [
    "commit-taken-over",
    "commit-envelope",
    "commit-bytes",
    "commit-names",
    "commit-names-durable",
    "commit-recorded",
    "commit-settled",
];
pub const RECORDED: usize = 5;

/// Places of a commit that turns out to be a duplicate; from the second on it is receipted.
const DUPLICATE: [&str; 3] = ["duplicate-named", "duplicate-recorded", "duplicate-settled"];

pub const SWEEP: [&str; 6] = [
    "sweep-begun",
    "sweep-unlinked",
    "sweep-recorded",
    "sweep-key-destroyed",
    "sweep-key-recorded",
    "sweep-key-certified",
];

const REMOVAL: [&str; 1] = ["removal-recorded"];

const MARKER: &str = "MARKER^PLACES^1984";

#[test]
fn every_place_is_tried() {
    let all = COMMIT.iter().chain(&DUPLICATE).chain(&crate::finalize::PLACES).chain(&SWEEP).chain(&REMOVAL);
    let all = all.chain(&crate::shred::SHRED).chain(&crate::shred::HOLD).chain(&crate::pickups::PLACES);
    let all: Vec<&str> = all.copied().collect();
    assert_eq!(all, sealdrop::keeper::crash::PLACES);
}

/// Old and new content of one path, told apart by length and by bytes.
fn old() -> Vec<u8> {
    content(&format!("{MARKER} old "), 70_000)
}

fn new() -> Vec<u8> {
    content(&format!("{MARKER} new "), 200_000)
}

/// Beyond the 8 MiB after which a journal says how to go on.
fn long() -> Vec<u8> {
    content(&format!("{MARKER} long "), (8 << 20) + 300_000)
}

/// What is left below a directory of the server that should be empty.
fn left_in(site: &Site, user: &str, dir: &str) -> Vec<PathBuf> {
    everything_below(&site.on_disk(user, dir)).split_off(1)
}

/// The server was restarted: nothing of the crash is left over, but an upload that can be continued.
#[track_caller]
fn assert_tidy(site: &Site, place: &str, uploads: usize) {
    for user in ["partner", RADIOLOGY] {
        assert!(left_in(site, user, "/.commit").is_empty(), "{place}: {:?}", left_in(site, user, "/.commit"));
    }
    let parts = left_in(site, "partner", "/.staging");
    let of = |kind: &str| parts.iter().filter(|p| p.extension().is_some_and(|e| e == kind)).count();
    // A short upload has no journal yet: it is sent anew.
    assert!(of("part") == uploads && of("jrn") <= uploads && parts.len() <= uploads * 2, "{place}: {parts:?}");
    assert!(site.state_contains(MARKER.as_bytes()).is_empty(), "{place}: plaintext on disk");
    site.assert_private();
}

/// A push into a daemon that dies at `place`: no OK is heard, and a daemon that does not die is up again.
#[track_caller]
fn push_into_crash(site: &mut Site, place: &str, remote: &str, bytes: &[u8]) -> PathBuf {
    let local = site.file("new", bytes);
    site.crash_at(place);
    site.partner().sftp(format!("put {} {remote}", local.display())).fails();
    let status = site.wait_for_end();
    assert!(!status.success(), "{place}: {status}");
    site.start().expect("the daemon starts after a crash");
    local
}

fn a_crash_in_a_commit(place: &str) {
    let recorded = COMMIT.iter().position(|p| *p == place).unwrap() >= RECORDED;
    let staged = usize::from(!recorded);
    let mut site = Site::new();
    let before = site.file("old", &old());
    for path in ["/radiology/versioned.dcm", "/shared/replaced.bin"] {
        site.partner().put(&before, path);
    }

    // A new name. Not recorded: nobody sees it. Continued from what is staged: it is whole.
    let local = push_into_crash(&mut site, place, "/radiology/fresh.dcm", &long());
    assert_tidy(&site, place, staged);
    assert_eq!(site.events_of("upload-committed", "/fresh.dcm").len(), 1 - staged, "{place}");
    assert_eq!(site.recipient(RADIOLOGY).delivered().contains(&"fresh.dcm".to_owned()), recorded, "{place}");
    if !recorded {
        site.partner().sftp(format!("reput {} /radiology/fresh.dcm", local.display())).ok();
    }
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/fresh.dcm") == long(), "{place}");
    site.partner().verified_receipt("/radiology/fresh.dcm");
    assert_tidy(&site, place, 0);

    // A name that is taken, in a drop. The older one is there, under its name or a numbered one.
    let local = push_into_crash(&mut site, place, "/radiology/versioned.dcm", &new());
    assert_tidy(&site, place, staged);
    let versions = |site: &Site| {
        let mut names = site.recipient(RADIOLOGY).delivered();
        names.retain(|name| name.starts_with("versioned.dcm"));
        names.iter().map(|name| site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{name}"))).collect::<Vec<_>>()
    };
    let expected = if recorded { vec![new(), old()] } else { vec![old()] };
    assert!(versions(&site) == expected, "{place}: {:?}", site.recipient(RADIOLOGY).delivered());
    if !recorded {
        // Sent anew instead of resumed.
        site.partner().put(&local, "/radiology/versioned.dcm");
        assert!(versions(&site) == [new(), old()], "{place}: {:?}", site.recipient(RADIOLOGY).delivered());
    }
    assert_tidy(&site, place, 0);

    // A name that is taken, in a shared folder. It is the old one or the new one, whole, and no third file.
    let local = push_into_crash(&mut site, place, "/shared/replaced.bin", &new());
    assert_tidy(&site, place, staged);
    assert_eq!(site.partner().list("/shared"), ["replaced.bin"]);
    if recorded {
        assert!(site.partner().get("/shared/replaced.bin") == new(), "{place}");
    } else {
        let kept = site.on_disk("partner", "/shared/replaced.bin");
        assert!(std::fs::metadata(kept).is_ok_and(|meta| meta.len() < 100_000), "{place}: the old one stands");
        site.partner().put(&local, "/shared/replaced.bin");
        assert!(site.partner().get("/shared/replaced.bin") == new(), "{place}");
    }
    assert_tidy(&site, place, 0);
    assert_eq!(site.events_of("crash-found", "").len(), 3, "{place}: each crash is in the log");
}

/// The same content again: of what the sender has there, and of what it has removed.
fn a_crash_in_a_duplicate(place: &str) {
    let recorded = place != DUPLICATE[0];
    let staged = usize::from(!recorded);
    let mut site = Site::new();
    let before = site.file("old", &old());
    for path in ["/radiology/there.dcm", "/radiology/removed.dcm"] {
        site.partner().put(&before, path);
    }
    site.partner().sftp("rm /radiology/removed.dcm").ok();
    let inboxes = |site: &Site| (site.recipient(RADIOLOGY).delivered(), site.snapshot("jails/radiology"));
    let delivered = inboxes(&site);
    for name in ["there.dcm", "removed.dcm"] {
        let path = format!("/radiology/{name}");
        let local = push_into_crash(&mut site, place, &path, &old());
        assert_tidy(&site, place, staged);
        assert!(inboxes(&site) == delivered, "{place}: {name}");
        assert_eq!(site.on_disk("partner", &path).exists(), recorded || name == "there.dcm", "{place}: {name}");
        assert_eq!(site.events_of("upload-duplicate", name).len(), 1 - staged, "{place}: {name}");
        // Who heard no OK sends it again.
        site.partner().put(&local, &path);
        assert_eq!(site.events_of("upload-duplicate", name).len(), 2 - staged, "{place}: {name}");
        assert!(inboxes(&site) == delivered && site.on_disk("partner", &path).exists(), "{place}: {name}");
        assert!(site.partner().verified_receipt(&path).contains("\nduplicate "), "{place}: {name}");
        assert_tidy(&site, place, 0);
    }
    site.age();
    assert!(left_in(&site, "partner", "/radiology").is_empty(), "{place}: no name is left over");
    assert_eq!(site.events_of("upload-committed", "").len(), 2, "{place}: nothing was delivered twice");
}

fn a_crash_in_a_sweep(place: &str) {
    let mut site = Site::new();
    let local = site.file("old", &old());
    for name in ["/radiology/a.dcm", "/radiology/b.dcm", "/lab/a.dcm"] {
        site.partner().put(&local, name);
    }
    site.partner().put(&local, "/shared/stays.bin");
    site.crash_at(place);
    site.sealdrop(&["sweep", "--now", "+400d"]).fails();
    assert!(!site.wait_for_end().success(), "{place}");
    site.start().expect("the daemon starts after a crash");
    // Whatever the clock says now: what began to expire is nobody's any more.
    for path in ["/inbox/partner/a.dcm", "/inbox/partner/b.dcm"] {
        site.recipient(RADIOLOGY).sftp(format!("get {path} late")).fails();
    }
    site.age();
    assert_eq!(site.age()["expired"].as_array().unwrap().len(), 0, "{place}: a second sweep finds nothing");
    for path in ["/radiology/a.dcm", "/radiology/b.dcm", "/lab/a.dcm"] {
        assert_eq!(site.events_of("expired", path).len(), 1, "{place}: {path} expires once in the log");
        assert!(!site.on_disk("partner", path).exists(), "{place}: {path}");
    }
    assert!(site.recipient(RADIOLOGY).delivered().is_empty(), "{place}");
    assert!(left_in(&site, "", "/../keys/shred").is_empty(), "{place}: {:?}", left_in(&site, "", "/../keys/shred"));
    let made = site.events_of("shred-key-made", "").len();
    assert_eq!(site.events_of("shred-key-destroyed", "").len(), made, "{place}: each key is destroyed once in the log");
    assert!(site.partner().get("/shared/stays.bin") == old(), "{place}");
    assert_tidy(&site, place, 0);
}

fn a_crash_in_a_removal(place: &str) {
    let mut site = Site::new();
    let local = site.file("old", &old());
    for name in ["/radiology/gone.dcm", "/radiology/other.dcm", "/shared/gone.bin"] {
        site.partner().put(&local, name);
    }
    let removals =
        [("partner", "/radiology/gone.dcm"), ("partner", "/shared/gone.bin"), (RADIOLOGY, "/inbox/partner/other.dcm")];
    for (user, path) in removals {
        let user = if user == RADIOLOGY { site.recipient(RADIOLOGY) } else { site.partner() };
        let (name, words) = (user.name, format!("rm {path}"));
        site.crash_at(place);
        User::new(&site, name).sftp(words).fails();
        assert!(!site.wait_for_end().success(), "{place}");
        assert!(site.on_disk(name, path).exists(), "{place}: {path} was removed in the log only");
        site.start().expect("the daemon starts after a crash");
        assert!(!site.on_disk(name, path).exists(), "{place}: {path}");
        assert_eq!(site.events_of("removed", path).len(), 1, "{place}: {path} is removed once in the log");
    }
    // A name that was given again is another file.
    site.partner().put(&site.file("new", &new()), "/radiology/gone.dcm");
    site.restart();
    assert_eq!(site.partner().list("/radiology"), ["gone.dcm", "other.dcm"]);
    assert_eq!(site.recipient(RADIOLOGY).delivered(), ["gone.dcm", "gone.dcm.~1~"]);
    assert_tidy(&site, place, 0);
}

/// One test a place: each says where it was.
macro_rules! tests {
    ($run:ident: $($name:ident => $place:literal,)*) => { $(
        #[test]
        fn $name() {
            $run($place);
        }
    )* };
}

tests! { a_crash_in_a_commit:
    a_crash_when_the_upload_was_taken_over => "commit-taken-over",
    a_crash_when_the_envelope_was_written => "commit-envelope",
    a_crash_when_the_bytes_were_durable => "commit-bytes",
    a_crash_when_the_names_were_made => "commit-names",
    a_crash_when_the_names_were_durable => "commit-names-durable",
    a_crash_when_the_drop_was_recorded => "commit-recorded",
    a_crash_when_the_commit_was_settled => "commit-settled",
}

tests! { a_crash_in_a_duplicate:
    a_crash_when_a_duplicate_was_named => "duplicate-named",
    a_crash_when_a_duplicate_was_recorded => "duplicate-recorded",
    a_crash_when_a_duplicate_was_settled => "duplicate-settled",
}

tests! { a_crash_in_a_sweep:
    a_crash_when_the_sweep_had_begun => "sweep-begun",
    a_crash_when_the_expired_files_were_unlinked => "sweep-unlinked",
    a_crash_when_the_expiries_were_recorded => "sweep-recorded",
    a_crash_when_a_shred_key_was_destroyed => "sweep-key-destroyed",
    a_crash_when_that_destruction_was_recorded => "sweep-key-recorded",
    a_crash_when_its_drops_were_certified => "sweep-key-certified",
}

tests! { a_crash_in_a_removal:
    a_crash_when_a_removal_was_recorded => "removal-recorded",
}
