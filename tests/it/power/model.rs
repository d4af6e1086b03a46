//! The disk itself, without a server on it: it forgets what nobody synced, keeps what somebody did, and between the two
//! leaves every mixture that a disk may leave and none that it may not.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::SystemTime;

use super::disk::{BLOCK, Disk, File, Folder, Kind, Loss, Meta, ROOT, State};
use super::may_mount;
use super::mount::Mounted;

const SEEDS: u64 = 200;

fn meta() -> Meta {
    let now = SystemTime::now();
    Meta { mode: 0o700, uid: 0, gid: 0, atime: now, mtime: now }
}

fn make_file(state: &mut State, folder: u64, name: &str) -> u64 {
    state.make(folder, name.as_ref(), meta(), Kind::File(File::default())).unwrap()
}

fn make_folder(state: &mut State, name: &str) -> u64 {
    state.make(ROOT, name.as_ref(), meta(), Kind::Folder(Folder::default())).unwrap()
}

/// All files by their path, with their bytes.
fn files(state: &State) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut next = vec![(String::new(), ROOT)];
    while let Some((path, number)) = next.pop() {
        match &state.inode(number).unwrap().kind {
            Kind::File(file) => drop(found.insert(path, state.read(number, 0, file.len as usize).unwrap())),
            Kind::Folder(folder) => {
                next.extend(folder.names.iter().map(|(name, inner)| (format!("{path}/{}", name.display()), *inner)));
            }
        }
    }
    found
}

fn paths(state: &State) -> Vec<String> {
    files(state).into_keys().collect()
}

#[test]
fn a_name_is_there_when_its_directory_was_synced_and_bytes_when_their_file_was() {
    let mut state = State::default();
    let file = make_file(&mut state, ROOT, "a");
    state.write(file, 0, b"bytes").unwrap();
    state.sync_file(file, false).unwrap();
    assert!(paths(&state.after(Loss::Everything)).is_empty(), "a sync of the file is none of its name");
    assert_eq!(paths(&state.after(Loss::Nothing)), ["/a"]);
    state.sync_folder(ROOT).unwrap();
    state.write(file, 3, b"e and more").unwrap();
    assert_eq!(files(&state.after(Loss::Everything))["/a"], b"bytes");
    assert_eq!(files(&state.after(Loss::Nothing))["/a"], b"byte and more");
    state.sync_file(file, true).unwrap();
    state.remove(ROOT, OsStr::new("a"), false).unwrap();
    assert_eq!(files(&state.after(Loss::Everything))["/a"], b"byte and more");
    state.sync_folder(ROOT).unwrap();
    assert!(paths(&state.after(Loss::Everything)).is_empty());
}

#[test]
fn a_block_that_was_not_synced_is_old_or_new_or_torn_between_sectors() {
    let mut state = State::default();
    let file = make_file(&mut state, ROOT, "a");
    state.sync_folder(ROOT).unwrap();
    state.write(file, 0, &[1; 2 * BLOCK]).unwrap();
    state.sync_file(file, true).unwrap();
    state.write(file, 0, &[2; 3 * BLOCK]).unwrap();
    let mut seen = [false; 4];
    for seed in 0..SEEDS {
        let bytes = &files(&state.after(Loss::Some(seed)))["/a"];
        assert!(bytes.len() == 2 * BLOCK || bytes.len() == 3 * BLOCK, "a length that it had");
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "a sector is not torn");
        assert!(bytes[..2 * BLOCK].iter().all(|byte| [1, 2].contains(byte)), "what was synced does not become zeros");
        let first = &bytes[..BLOCK];
        let torn = first.iter().any(|byte| *byte != first[0]);
        seen[usize::from(first[0]) - 1] = true;
        seen[2] |= torn;
        seen[3] |= bytes.len() == 3 * BLOCK && bytes[2 * BLOCK] == 0;
    }
    assert_eq!(seen, [true; 4], "old, new, torn, and a length without its bytes");
}

#[test]
fn a_renamed_file_is_under_the_one_name_or_the_other_or_both() {
    for synced in [None, Some("from"), Some("to")] {
        let mut state = State::default();
        let [from, to] = ["from", "to"].map(|name| make_folder(&mut state, name));
        let file = make_file(&mut state, from, "a");
        state.write(file, 0, b"bytes").unwrap();
        state.sync_file(file, false).unwrap();
        [ROOT, from, to].into_iter().for_each(|folder| state.sync_folder(folder).unwrap());
        state.rename((from, "a".as_ref()), (to, "b".as_ref()), false, false).unwrap();
        match synced {
            Some("from") => state.sync_folder(from).unwrap(),
            Some(_) => state.sync_folder(to).unwrap(),
            None => {}
        }
        let mut seen: Vec<Vec<String>> = (0..SEEDS).map(|seed| paths(&state.after(Loss::Some(seed)))).collect();
        seen.sort();
        seen.dedup();
        let expected: &[&[&str]] = match synced {
            None => &[&["/from/a"], &["/from/a", "/to/b"], &["/to/b"]],
            // That the old name is gone is durable only with the new one.
            Some("from") => &[&["/to/b"]],
            Some(_) => &[&["/from/a", "/to/b"], &["/to/b"]],
        };
        assert_eq!(seen, expected, "synced: {synced:?}");
    }
}

#[test]
fn of_one_name_no_later_change_is_there_without_the_earlier() {
    let mut state = State::default();
    for text in ["1", "2", "3"] {
        let file = make_file(&mut state, ROOT, text);
        state.write(file, 0, text.as_bytes()).unwrap();
        state.sync_file(file, false).unwrap();
        state.rename((ROOT, text.as_ref()), (ROOT, "now".as_ref()), false, false).unwrap();
    }
    for seed in 0..SEEDS {
        let left = files(&state.after(Loss::Some(seed)));
        let now = left.get("/now").map_or(0, |text| text[0] - b'0');
        assert!((1..=now).all(|older| !left.contains_key(&format!("/{older}"))), "{seed}: {left:?}");
    }
}

#[test]
fn a_seed_leaves_the_same_each_time() {
    let mut state = State::default();
    for n in 0..40 {
        let file = make_file(&mut state, ROOT, &format!("f{n}"));
        state.write(file, 100 * n, &[n as u8; 9000]).unwrap();
    }
    for seed in 0..20 {
        assert_eq!(files(&state.after(Loss::Some(seed))), files(&state.after(Loss::Some(seed))));
    }
    assert_ne!(files(&state.after(Loss::Some(1))), files(&state.after(Loss::Some(2))));
}

/// What processes do to it as a file system, and what they find after the power was gone.
#[test]
fn system_calls_mean_here_what_they_mean_elsewhere() {
    if !may_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(State::default());
    let mounted = Mounted::new(&disk, dir.path());
    let at = |name: &str| dir.path().join(name);
    for name in ["data", "whole", "unsynced"] {
        fs::write(at(name), name).unwrap();
    }
    fs::hard_link(at("whole"), at("twin")).unwrap();
    for name in ["data", "whole"] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o640)).unwrap();
    }
    fs::File::open(at("data")).unwrap().sync_data().unwrap();
    fs::File::open(at("whole")).unwrap().sync_all().unwrap();
    fs::File::open(dir.path()).unwrap().sync_all().unwrap();
    fs::remove_file(at("twin")).unwrap();
    assert_eq!(fs::metadata(at("whole")).unwrap().nlink(), 1);
    let state = disk.cut();
    assert!(fs::write(at("late"), "late").is_err(), "nothing is written when the power is gone");
    drop(mounted);

    let _mounted = Mounted::new(&Disk::new(state.after(Loss::Everything)), dir.path());
    let found = |name: &str| (fs::read_to_string(at(name)).unwrap(), fs::metadata(at(name)).unwrap());
    assert_eq!(found("data").0, "data");
    assert_ne!(found("data").1.permissions().mode() & 0o777, 0o640, "fdatasync is for the bytes");
    assert_eq!(found("whole").0, "whole");
    assert_eq!(found("whole").1.permissions().mode() & 0o777, 0o640);
    assert_eq!(found("whole").1.nlink(), 2, "that the twin is gone was not synced");
    assert_eq!(found("unsynced").0, "", "a name without its bytes");
    assert!(!at("late").exists());
}
