//! A power cut at any moment of a rotation: every drop has its old envelope or its new one, and opens.

use sealdrop::cli::demo::place::RADIOLOGY;

use super::disk::{Dice, Loss};
use super::may_mount;
use super::plant::{Plant, bytes_of};

#[test]
fn between_any_two_changes_of_a_rotation_a_power_cut_leaves_every_drop_readable() {
    if !may_mount() {
        return;
    }
    for words in [&["rotate", "identity", RADIOLOGY, "--reason", "test"][..], &["rotate", "root", "--reason", "test"]] {
        let mut plant = Plant::new();
        assert!(plant.push("/radiology", "a-70000.dcm"));
        plant.disk.film();
        plant.site.sealdrop(words).ok();
        let film = plant.disk.frames();
        for seed in 1..=6 {
            let mut dice = Dice(seed);
            let at = dice.below(film.len());
            eprintln!("{words:?}: frame {at} of {}", film.len());
            plant.come_up(&film[at], Loss::Some(dice.roll()));
            plant.forget();
            let got = plant.site.recipient(RADIOLOGY).get("/inbox/partner/a-70000.dcm");
            assert!(got == bytes_of("a-70000.dcm"), "{words:?}, frame {at}");
        }
    }
}
