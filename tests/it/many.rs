//! Folders of 200,000 names, trees of 100 levels, thousands of files in one `put -r`: every name once, every file whole and
//! receipted, and neither the session nor the keeper grows with them.
//!
//! `SEALDROP_TEST_FILES=10000 scripts/test many::` pushes ten thousand files; without it there are fewer, since each of
//! them is made durable twice and more.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};

use crate::limits::peak;
use crate::site::{Site, content, everything_below, have};
use crate::user::User;
use crate::wire::{Wire, handle, status, string};

const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const OPENDIR: u8 = 11;
const READDIR: u8 = 12;
const MKDIR: u8 = 14;
const STAT: u8 = 17;
const NAME: u8 = 104;
const ATTRS: u8 = 105;

/// How much more memory 200,000 names may take than 1,000, in KiB: nothing, but for what an allocator does.
const GROWTH_KIB: u64 = 2 * 1024;

/// What the keeper may grow by for 10,000 drops: what its database keeps in memory of them.
const KEEPER_GROWTH_KIB: u64 = 96 * 1024;

/// Sizes of the files behind the names; an inode takes 65,000 links on ext4.
const SIZES: [usize; 5] = [0, 1, 1000, 65_536, 100_000];

/// A folder with so many names of a few sealed files, put there beside the server: it would take an hour to upload them,
/// and a listing sees no difference.
fn fill(site: &Site, dir: &Path, count: usize) {
    fs::create_dir_all(dir).expect("a folder");
    // As the keeper makes them: others may pass.
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a folder to pass");
    for (n, size) in SIZES.iter().enumerate().take(count) {
        let sealed = site.on_disk("partner", &format!("/radiology/of-{size}.dcm"));
        fs::copy(sealed, dir.join(name(n))).expect("a copy of a sealed file");
    }
    for n in SIZES.len()..count {
        fs::hard_link(dir.join(name(n % SIZES.len())), dir.join(name(n))).expect("a name more");
    }
}

fn name(n: usize) -> String {
    format!("study-{n:06}.dcm")
}

/// With the sealed files that `fill` gives names to.
fn site() -> Site {
    let site = Site::new();
    for size in SIZES {
        let local = site.file(format!("of-{size}.dcm"), &content("x", size));
        site.partner().put(&local, &format!("/radiology/of-{size}.dcm"));
    }
    site
}

/// All names with their sizes, in the order in which they came; `meanwhile` runs after each page.
fn listing(wire: &mut Wire, path: &str, mut meanwhile: impl FnMut(usize)) -> Vec<(String, u64)> {
    let held = handle(wire.ask(OPENDIR, &string(path.as_bytes())));
    let mut all = Vec::new();
    for page in 0.. {
        let fields = match wire.ask(READDIR, &held) {
            (NAME, fields) => fields,
            other => {
                assert_eq!(status(other), 1, "the end");
                break;
            }
        };
        assert!(fields.len() < 64 * 1024, "a page of {} bytes", fields.len());
        let mut rest = &fields[4..];
        for _ in 0..u32::from_be_bytes(fields[..4].try_into().unwrap()) {
            let name = taken(&mut rest);
            taken(&mut rest);
            let flags = u32::from_be_bytes(rest[..4].try_into().unwrap());
            assert_eq!(flags, 0x0f, "size, owner, permissions, times");
            let size = u64::from_be_bytes(rest[4..12].try_into().unwrap());
            rest = &rest[4 + 8 + 8 + 4 + 8..];
            all.push((String::from_utf8(name).unwrap(), size));
        }
        assert!(rest.is_empty());
        meanwhile(page);
    }
    assert_eq!(status(wire.ask(4, &held)), 0);
    all
}

fn taken(rest: &mut &[u8]) -> Vec<u8> {
    let (len, after) = rest.split_at(4);
    let (bytes, after) = after.split_at(u32::from_be_bytes(len.try_into().unwrap()) as usize);
    *rest = after;
    bytes.to_vec()
}

/// Each name once and with its size.
fn assert_complete(mut names: Vec<(String, u64)>, count: usize) {
    names.sort();
    let wanted = (0..count).map(|n| (name(n), SIZES[n % SIZES.len()] as u64));
    assert_eq!(names.len(), count);
    assert!(names.into_iter().eq(wanted), "each name once and with its size");
}

/// One listing in a session of its own: its order, and the session's peak in KiB.
fn listed(site: &Site, user: User<'_>, path: &str, count: usize) -> (Vec<(String, u64)>, u64) {
    let before = site.sessions();
    let mut wire = Wire::open(user);
    let session = *site.sessions().iter().find(|pid| !before.contains(pid)).expect("a session of its own");
    let asked = site.events_of("listed", path).len();
    let names = listing(&mut wire, path, |_| {});
    assert_complete(names.clone(), count);
    assert_eq!(site.events_of("listed", path).len(), asked + 1, "the keeper is asked once for {path}");
    (names, peak(session).expect("it is still there"))
}

#[test]
fn a_listing_is_streamed_in_flat_memory_while_others_are_served() {
    let many = 200_000;
    let site = site();
    let mut order = Vec::new();
    for (folder, dir, many) in
        [("partner", "/shared", many), ("partner", "/radiology", 50_000), (RADIOLOGY, "/inbox/partner", 50_000)]
    {
        let user = site.recipient(folder);
        let (few, all) = (format!("{dir}/few"), format!("{dir}/many"));
        fill(&site, &site.on_disk(folder, &few), 1000);
        fill(&site, &site.on_disk(folder, &all), many);
        let (_, small) = listed(&site, user, &few, 1000);
        let began = std::time::Instant::now();
        let (names, large) = listed(&site, user, &all, many);
        eprintln!("{dir}: {many} names in {:?}, session {small} KiB for 1,000, {large} KiB for all", began.elapsed());
        assert!(large < small + GROWTH_KIB, "{dir}: {small} KiB for 1,000 names, {large} KiB for {many}");
        order.push(names);
    }
    // Twice in the same order; while it goes on, others work in the same folder and elsewhere.
    let mut wire = Wire::open(site.partner());
    let local = site.file("meanwhile.dcm", b"meanwhile");
    let second = listing(&mut wire, "/shared/many", |page| {
        if page == 3 {
            site.partner().put(&local, "/shared/many/meanwhile.dcm");
            site.partner().put(&local, "/radiology/meanwhile.dcm");
            site.partner().sftp("rm /shared/many/meanwhile.dcm").ok();
        }
    });
    assert!(site.recipient(RADIOLOGY).delivered().contains(&"meanwhile.dcm".to_owned()));
    let second: Vec<_> = second.into_iter().filter(|(name, _)| name != "meanwhile.dcm").collect();
    assert!(order[0] == second, "the order is the same");

    // What people type.
    let lines = |ran: crate::run::Ran, what: &str, count: usize| {
        let said = ran.ok();
        let mut names: Vec<&str> = said
            .lines()
            .filter_map(|line| line.rsplit(['/', ' ']).next())
            .filter(|name| name.starts_with("study-"))
            .collect();
        names.sort_unstable();
        assert!(names.iter().copied().eq((0..count).map(name).collect::<Vec<_>>().iter()), "{what}: {}", names.len());
    };
    lines(site.partner().sftp("ls -1 /shared/many"), "sftp ls -1", many);
    lines(site.partner().sftp("ls -l /radiology/many"), "sftp ls -l", 50_000);
    if have("lftp") {
        lines(site.partner().lftp("cls -1 /shared/many"), "lftp cls", many);
    }
    if have("rclone") {
        lines(site.partner().rclone(&["lsf", ":sftp:/shared/many"]), "rclone lsf", many);
    }
}

/// Of 30 bytes a level.
fn deep(levels: usize) -> String {
    (0..levels).map(|n| format!("level-{n:023}")).collect::<Vec<_>>().join("/")
}

/// What docs/sftp.md says a path has at the most.
const PATH_MAX: usize = 3072;
const DEPTH_MAX: usize = 128;

#[test]
fn trees_of_a_hundred_levels_go_and_come_back() {
    let site = Site::new();
    let tree = site.work().join("tree");
    let bottom = tree.join(deep(100));
    fs::create_dir_all(&bottom).expect("local folders");
    fs::write(bottom.join("at the bottom.dcm"), b"at the bottom").expect("a local file");
    if have("rclone") {
        site.partner().rclone(&["copy", "tree", ":sftp:/shared/rclone"]).ok();
        site.partner().rclone(&["copy", ":sftp:/shared/rclone", "from-rclone"]).ok();
        assert_eq!(names(&site.work().join("from-rclone")), names(&tree));
    }
    if have("lftp") {
        site.partner().lftp("mirror -R tree /shared/lftp").ok();
        site.partner().lftp("mirror /shared/lftp from-lftp").ok();
        assert_eq!(names(&site.work().join("from-lftp")), names(&tree));
        site.partner().lftp("mkdir -p /shared/made/a/b/c; mkdir -p /radiology/made/a/b/c").ok();
        // OpenSSH's `sftp -r` goes no deeper than 64 levels.
        site.partner().lftp("mirror -R tree /radiology/tree").ok();
        site.recipient(RADIOLOGY).lftp("mirror /inbox/partner/tree from-inbox").ok();
        assert_eq!(names(&site.work().join("from-inbox")), names(&tree));
    }
}

/// The fields of MKDIR.
fn made(path: &str) -> Vec<u8> {
    [&string(path.as_bytes())[..], &[0; 4]].concat()
}

/// With the `.sealed` that a sealed recipient's files end in, a name has to be a name too.
#[test]
fn a_name_that_its_recipient_could_not_ask_for_is_refused() {
    let site = Site::new();
    let named = |len: usize| format!("{}.dcm", "n".repeat(len - 4));
    let local = site.file("long-name", b"a long name");
    site.partner().put(&local, &format!("/radiology/{}", named(255)));
    assert!(site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{}", named(255))) == b"a long name");
    site.partner().sftp(format!("put long-name /lab/{}", named(249))).fails();
    assert!(site.events_of("upload-committed", "").len() == 1, "refused before it is sent");
    site.partner().put(&local, &format!("/lab/{}", named(248)));
    let sealed = site.recipient(LAB).get(&format!("/inbox/partner/{}.sealed", named(248)));
    site.file("sealed", &sealed);
    site.recipient(LAB).open_offline("sealed", "opened").ok();
    assert_eq!(fs::read(site.work().join("opened")).unwrap(), b"a long name");
}

#[test]
fn a_path_as_long_as_it_may_be_works_and_a_longer_one_is_refused() {
    let site = Site::new();
    let mut wire = Wire::open(site.partner());
    for folder in ["/shared/", "/radiology/"] {
        let whole = format!("{folder}{}/", deep(100));
        let slashes = whole.match_indices('/').map(|(n, _)| n).skip(2);
        for end in slashes {
            assert_eq!(status(wire.ask(MKDIR, &made(&whole[..end]))), 0, "{end} bytes");
        }
        let longest = format!("{whole}{}", "x".repeat(PATH_MAX - whole.len()));
        let opened = wire.ask(OPEN, &[&string(longest.as_bytes())[..], &[0, 0, 0, 0x1a], &[0; 4]].concat());
        if folder == "/shared/" {
            assert_eq!(status(wire.ask(CLOSE, &handle(opened))), 0);
            assert_eq!(wire.ask(STAT, &string(longest.as_bytes())).0, ATTRS);
        } else {
            // It has to fit below `/inbox/partner/` too, and is refused before its first byte.
            assert_eq!(status(opened), 4);
            assert_eq!(status(wire.ask(STAT, &string(longest.as_bytes()))), 2, "nothing of it is there");
        }
        let longer = format!("{longest}x");
        assert_eq!(status(wire.ask(STAT, &string(longer.as_bytes()))), 4, "longer");
        assert_eq!(status(wire.ask(MKDIR, &made(&longer))), 4, "longer");
    }
    let deeper = format!("/shared/{}", ["d"; DEPTH_MAX].join("/"));
    assert_eq!(status(wire.ask(MKDIR, &made(&deeper))), 4, "deeper");
    assert_eq!(wire.ask(STAT, &string(b"/shared")).0, ATTRS, "the connection goes on");
}

/// Names below `dir`, and the contents of files.
fn names(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let below = |path: PathBuf| {
        let name = path.strip_prefix(dir).expect("below").to_owned();
        (name, path.is_file().then(|| fs::read(&path).expect("a file")))
    };
    everything_below(dir).into_iter().map(below).collect()
}

/// What a process uses now, in KiB.
fn resident(pid: u64) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn thousands_of_files_in_one_put_are_all_delivered_and_receipted() {
    let files = std::env::var("SEALDROP_TEST_FILES").ok().and_then(|count| count.parse().ok()).unwrap_or(2000);
    let site = Site::new();
    let tree = site.work().join("many");
    for n in 0..files {
        let dir = tree.join(format!("series-{:02}", n / 1000));
        if n % 1000 == 0 {
            fs::create_dir_all(&dir).expect("a local folder");
        }
        fs::write(dir.join(name(n)), content(&format!("slice {n} "), 200 + n % 3000)).expect("a local file");
    }
    let keeper = u64::from(site.keeper());
    let before = resident(keeper);
    let began = std::time::Instant::now();
    let (put, pushing) = crate::random::measured(&site, || site.partner().sftp("put -r many /radiology"));
    put.ok();
    let (pushed, after) = (began.elapsed(), resident(keeper));
    let (got, pulling) =
        crate::random::measured(&site, || site.recipient(RADIOLOGY).sftp("get -r /inbox/partner/many back"));
    got.ok();
    eprintln!(
        "{files} files in {pushed:?} and back in {:?}; keeper {before} -> {after} KiB, sessions {pushing} and {pulling} KiB",
        began.elapsed() - pushed
    );
    assert!(names(&site.work().join("back")) == names(&tree), "every file came back as it was");
    assert_eq!(site.ask(&["receipts"]).len(), files, "every file has its receipt");
    assert_eq!(site.events_of("upload-committed", "").len(), files);
    site.partner().verified_receipt(&format!("/radiology/many/series-00/{}", name(7)));
    assert!(pushing < 32 * 1024 && pulling < 32 * 1024, "a session needs no more for many files than for one");
    assert!(after < before + KEEPER_GROWTH_KIB, "the keeper grew from {before} to {after} KiB");
}
