//! What survives a power cut: at any moment, between any two changes of a commit, at each named place of a commit and of a
//! sweep, and after the OK for a change of names.

use sealdrop::cli::demo::place::RADIOLOGY;

use super::disk::{Dice, Loss, State};
use super::may_mount;
use super::plant::{Plant, bytes_of, newer_than};
use crate::places::{COMMIT, RECORDED};
use crate::user::quoted;

/// The seeds of this run: a few that are always the same, or as many as the environment says.
fn seeds(few: u64) -> impl Iterator<Item = u64> {
    let asked = |variable| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = asked("SEALDROP_TEST_SEED").unwrap_or(1);
    (first..first + asked("SEALDROP_TEST_SEEDS").unwrap_or(few)).inspect(|seed| eprintln!("seed {seed}"))
}

/// Changes of the disk in one round, about: three clients with three files each.
const CHANGES_A_ROUND: usize = 900;

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    if !may_mount() {
        return;
    }
    // Some rounds on one site, so that each is built on what others left.
    for rounds in seeds(4).collect::<Vec<_>>().chunks(4) {
        let mut plant = Plant::new();
        for seed in rounds {
            a_round(&mut plant, *seed);
        }
        plant.assert_no_plaintext();
    }
}

fn a_round(plant: &mut Plant, seed: u64) {
    eprintln!("round {seed}");
    let mut dice = Dice(seed);
    let names = |client: u64| {
        let sizes = [20_000, 300_000, if client == 0 { 9_000_000 } else { 1 }];
        sizes.map(|size| format!("r{seed}c{client}-{size}.dcm"))
    };
    plant.disk.cut_after(dice.below(CHANGES_A_ROUND) as u64);
    let client =
        |client| move |plant: &Plant| names(client).iter().take_while(|name| plant.push("/radiology", name)).count();
    let state = plant.cut_during((0..3).map(client).collect());
    plant.come_up(&state, Loss::Some(dice.roll()));
    plant.check(&state);
    for client in 0..3 {
        let names = names(client);
        plant.complete("/radiology", &[names[0].as_str(), &names[2]]);
    }
}

/// The disk is filmed while a file is pushed: a power cut after each change that made, not only where we thought of one.
#[test]
fn between_any_two_changes_of_a_commit_a_power_cut_leaves_all_of_it_or_none() {
    if !may_mount() {
        return;
    }
    let mut plant = Plant::new();
    assert!(plant.push("/radiology", "before-70000.dcm"));
    plant.disk.film();
    assert!(plant.push("/radiology", "new-200000.dcm"));
    let film = plant.disk.frames();
    let heard = film.iter().position(|state| state.heard().len() == 2).expect("the client heard OK");
    for seed in seeds(8) {
        let mut dice = Dice(seed);
        let at = if dice.below(4) == 0 { heard } else { dice.below(film.len()) };
        eprintln!("frame {at} of {}, OK at {heard}", film.len());
        plant.come_up(&film[at], Loss::Some(dice.roll()));
        plant.forget();
        plant.check(&film[at]);
        plant.complete("/radiology", &["new-200000.dcm"]);
    }
}

/// What a sweep is to destroy.
pub const EXPIRING: [&str; 2] = ["a-70000.dcm", "b-70000.dcm"];

/// Failed and lost, failed but persisted: the power goes at a named place of a commit, and of what was not synced by
/// then nothing is left, or all of it, or some.
fn a_cut_in_a_commit(place: &str) {
    if !may_mount() {
        return;
    }
    let recorded = COMMIT.iter().position(|p| *p == place).expect("a place") >= RECORDED;
    let mut plant = Plant::new();
    assert!(plant.push("/radiology", "old-70000.dcm"));
    assert!(plant.push("/shared", "old-70000.dcm"));
    // A new name, a name that is taken in a drop, one that is taken in a shared folder.
    for (folder, name, pushed) in [
        ("/radiology", "fresh-9000000.dcm", bytes_of("fresh-9000000.dcm")),
        ("/radiology", "old-70000.dcm", newer_than("old-70000.dcm")),
        ("/shared", "old-70000.dcm", bytes_of("newer-200000.dcm")),
    ] {
        plant.site.stop_at(place);
        let path = format!("{folder}/{name}");
        let state = plant.cut_while(|plant| {
            let local = plant.site.file(name, &pushed);
            plant.site.partner().sftp(format!("put {} {path}", quoted(&local))).fails();
        });
        for loss in [Loss::Everything, Loss::Some(1), Loss::Nothing] {
            eprintln!("{place}, {path}, {loss:?}");
            plant.come_up(&state, loss);
            plant.forget();
            plant.check(&state);
            let count = plant.site.events_of("upload-committed", &path).len();
            let before = usize::from(name.starts_with("old"));
            assert_eq!(count, before + usize::from(recorded), "{place}, {path}, {loss:?}: committed or not");
            if folder == "/radiology" {
                plant.complete(folder, &[name]);
            } else {
                let bytes = plant.site.partner().get(&path);
                let expected = if recorded { pushed.clone() } else { bytes_of(name) };
                assert!(bytes == expected, "{place}, {path}, {loss:?}: the old one or the new one, whole");
            }
        }
    }
    plant.assert_no_plaintext();
}

fn a_cut_in_a_sweep(place: &str) {
    if !may_mount() {
        return;
    }
    let mut plant = Plant::new();
    for name in EXPIRING {
        assert!(plant.push("/radiology", name));
    }
    assert!(plant.push("/shared", "stays-70000.dcm"));
    plant.site.stop_at(place);
    let state = plant.cut_while(|plant| drop(plant.site.sealdrop(&["sweep", "--now", "+400d"])));
    for loss in [Loss::Everything, Loss::Some(1), Loss::Some(2), Loss::Nothing] {
        eprintln!("{place}, {loss:?}");
        plant.come_up(&state, loss);
        plant.check_expired(true);
    }
}

#[test]
fn between_any_two_changes_of_a_sweep_a_power_cut_brings_nothing_back() {
    if !may_mount() {
        return;
    }
    let mut plant = Plant::new();
    for name in EXPIRING {
        assert!(plant.push("/radiology", name));
    }
    assert!(plant.push("/shared", "stays-70000.dcm"));
    plant.disk.film();
    plant.site.age();
    plant.disk.hear("swept");
    let film = plant.disk.frames();
    for seed in seeds(4) {
        let mut dice = Dice(seed);
        let state = &film[dice.below(film.len())];
        plant.come_up(state, Loss::Some(dice.roll()));
        plant.check_expired(state.heard().contains("swept"));
    }
}

/// The second start builds on what the first left visible and not durable.
#[test]
fn a_crash_and_then_a_power_cut_lose_nothing_that_was_acknowledged() {
    if !may_mount() {
        return;
    }
    for place in ["commit-taken-over", "commit-names", "commit-recorded"] {
        let mut plant = Plant::new();
        plant.site.crash_at(place);
        let local = plant.local("first-70000.dcm");
        plant.site.partner().sftp(format!("put {} /radiology/first-70000.dcm", quoted(&local))).fails();
        plant.site.wait_for_end();
        plant.site.start().expect("the daemon starts after a crash");
        assert!(plant.push("/radiology", "second-70000.dcm"));
        let state = plant.disk.cut();
        plant.come_up(&state, Loss::Everything);
        plant.check(&state);
        plant.complete("/radiology", &["first-70000.dcm"]);
    }
}

/// What was closed under a temp name is whole under that name or the next, at every step of the rename.
#[test]
fn a_power_cut_in_the_rename_of_a_parked_upload_leaves_it_whole() {
    if !may_mount() {
        return;
    }
    let mut plant = Plant::new();
    let local = plant.local("a-70000.dcm");
    plant.site.partner().sftp(format!("put {} /shared/one.filepart", quoted(&local))).ok();
    plant.disk.film();
    plant.site.partner().sftp("rename /shared/one.filepart /shared/two.filepart").ok();
    let film = plant.disk.frames();
    for seed in seeds(8) {
        let mut dice = Dice(seed);
        plant.come_up(&film[dice.below(film.len())], Loss::Some(dice.roll()));
        let rename = |from| plant.site.partner().sftp(format!("rename /shared/{from}.filepart /shared/whole.dcm"));
        assert!(rename("one").status.success() || rename("two").status.success(), "a parked upload is lost");
        assert!(plant.site.partner().get("/shared/whole.dcm") == bytes_of("a-70000.dcm"));
    }
}

/// `init` again makes what is missing, and the daemon starts.
#[test]
fn a_machine_that_lost_power_in_its_first_minute_can_be_set_up() {
    if !may_mount() {
        return;
    }
    let disk = super::Disk::new(State::default());
    disk.film();
    let mut plant = Plant::on(disk);
    let film = plant.disk.frames();
    for seed in seeds(8) {
        let mut dice = Dice(seed);
        plant.replace_disk(&film[dice.below(film.len())], Loss::Some(dice.roll()));
        plant.site.sealdrop(&["init"]).ok();
        plant.site.start().expect("the daemon starts");
        plant.site.assert_private();
    }
}

/// Whatever a client was told about names is so after a power cut that takes everything else.
#[test]
fn what_was_acknowledged_of_names_survives() {
    if !may_mount() {
        return;
    }
    let mut plant = Plant::new();
    let local = plant.local("a-70000.dcm");
    let partner = |plant: &Plant, batch: &str| plant.site.partner().sftp(batch).ok();
    for name in ["gone", "moved"] {
        partner(&plant, &format!("put {} /shared/{name}-70000.dcm", quoted(&local)));
    }
    // Closed under a temp name: not delivered, and not lost.
    partner(&plant, &format!("put {} /shared/first.filepart", quoted(&local)));
    partner(&plant, &format!("put {} /radiology/b-70000.dcm.filepart", quoted(&local)));
    let lose = |plant: &mut Plant| {
        let state = plant.disk.cut();
        plant.come_up(&state, Loss::Everything);
    };
    lose(&mut plant);
    partner(&plant, "ls /shared/first.filepart\nls /radiology/b-70000.dcm.filepart");

    partner(&plant, "rm /shared/gone-70000.dcm\nmkdir /shared/sub\nmkdir /radiology/study");
    partner(&plant, "rename /shared/first.filepart /shared/second.filepart");
    lose(&mut plant);
    assert_eq!(names(&plant, "/shared"), ["moved-70000.dcm", "sub"]);
    partner(&plant, "ls /shared/second.filepart");

    partner(&plant, "rename /shared/moved-70000.dcm /shared/sub/moved-70000.dcm");
    partner(&plant, &format!("put {} /radiology/study/a-70000.dcm", quoted(&local)));
    lose(&mut plant);
    assert!(names(&plant, "/shared") == ["sub"] && names(&plant, "/shared/sub") == ["moved-70000.dcm"]);
    assert!(plant.site.recipient(RADIOLOGY).get("/inbox/partner/study/a-70000.dcm") == bytes_of("a-70000.dcm"));

    partner(&plant, "rename /shared/second.filepart /shared/whole.dcm");
    partner(&plant, "rename /radiology/b-70000.dcm.filepart /radiology/b-70000.dcm");
    partner(&plant, "rm /shared/sub/moved-70000.dcm\nrmdir /shared/sub");
    lose(&mut plant);
    assert_eq!(names(&plant, "/shared"), ["whole.dcm"]);
    assert!(plant.site.partner().get("/shared/whole.dcm") == bytes_of("a-70000.dcm"));
    assert!(plant.site.recipient(RADIOLOGY).get("/inbox/partner/b-70000.dcm") == bytes_of("a-70000.dcm"));
}

fn names(plant: &Plant, folder: &str) -> Vec<String> {
    let mut names = plant.site.partner().list(folder);
    names.sort();
    names
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

tests! { a_cut_in_a_commit:
    a_cut_when_the_upload_was_taken_over => "commit-taken-over",
    a_cut_when_the_envelope_was_written => "commit-envelope",
    a_cut_when_the_bytes_were_durable => "commit-bytes",
    a_cut_when_the_names_were_made => "commit-names",
    a_cut_when_the_names_were_durable => "commit-names-durable",
    a_cut_when_the_drop_was_recorded => "commit-recorded",
    a_cut_when_the_commit_was_settled => "commit-settled",
}

tests! { a_cut_in_a_sweep:
    a_cut_when_the_sweep_had_begun => "sweep-begun",
    a_cut_when_the_expired_files_were_unlinked => "sweep-unlinked",
    a_cut_when_the_expiries_were_recorded => "sweep-recorded",
    a_cut_when_a_shred_key_was_destroyed => "sweep-key-destroyed",
    a_cut_when_that_destruction_was_recorded => "sweep-key-recorded",
    a_cut_when_its_drops_were_certified => "sweep-key-certified",
}
