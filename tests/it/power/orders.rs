//! A power cut at any moment of an order that changes who can read a drop or until when: a shredding, a hold and its release,
//! other recipients. What was said to be done stays done, what was begun can be ended, and who may read a drop reads it.

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};

use super::disk::{Dice, Loss, State};
use super::may_mount;
use super::plant::{Plant, bytes_of};
use crate::readdress::{assert_has_not, assert_lab_has, readdress, send_to, wait_until_readdressed};
use crate::shred::{drop_of, opens, state_of};

/// What the order is about, and what it is not about.
const DROP: &str = "a-70000.dcm";
const OTHER: &str = "b-70000.dcm";

fn with_two_drops() -> Plant {
    let plant = Plant::new();
    assert!(plant.push("/radiology", DROP) && plant.push("/radiology", OTHER));
    plant
}

/// The machine comes up after a cut in one of the frames; what it was cut in. The last frames are in it for certain: what was
/// acknowledged is what must not be lost.
fn cut_in<'a>(plant: &mut Plant, film: &'a [State], seed: u64) -> &'a State {
    let mut dice = Dice(seed);
    let at = if seed == 1 { film.len() - 1 } else { dice.below(film.len()) };
    eprintln!("frame {at} of {}, seed {seed}", film.len());
    plant.come_up(&film[at], Loss::Some(dice.roll()));
    plant.forget();
    &film[at]
}

/// The power goes once more, and with it all that was not durable.
fn cut_again(plant: &mut Plant) {
    let state = plant.disk.cut();
    plant.come_up(&state, Loss::Everything);
}

#[track_caller]
fn assert_reads(plant: &Plant, name: &str) {
    let got = plant.site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{name}"));
    assert!(got == bytes_of(name), "{name} is not what was pushed");
}

#[test]
fn between_any_two_changes_of_a_shredding_a_power_cut_leaves_all_of_a_drop_or_nothing_for_ever() {
    if !may_mount() {
        return;
    }
    let mut plant = with_two_drops();
    let drop = drop_of(&plant.site, &format!("/radiology/{DROP}"));
    let copy = plant.site.snapshot("jails");
    plant.disk.film();
    plant.site.sealdrop(&["shred", &drop, "--reason", "test"]).ok();
    plant.disk.hear("shredded");
    let film = plant.disk.frames();
    for seed in 1..=6 {
        let state = cut_in(&mut plant, &film, seed);
        let begun = !plant.site.events_of("shredding", "").is_empty();
        assert!(begun || !state.heard().contains("shredded"), "it was done, and is forgotten");
        plant.site.ask(&["sweep"]);
        for _ in 0..2 {
            assert_reads(&plant, OTHER);
            // With no key that is left, from no copy.
            assert_eq!(opens(&plant.site, &copy).contains(&drop), !begun);
            assert_eq!(plant.site.events_of("shredded", "").len(), usize::from(begun));
            if begun {
                assert_eq!(state_of(&plant.site, &drop), "shredded");
                assert_eq!(plant.site.recipient(RADIOLOGY).delivered(), [OTHER]);
            } else {
                assert_reads(&plant, DROP);
            }
            cut_again(&mut plant);
        }
    }
}

#[test]
fn between_any_two_changes_of_a_hold_and_its_release_a_power_cut_leaves_the_drop_readable() {
    if !may_mount() {
        return;
    }
    let mut plant = with_two_drops();
    let drop = drop_of(&plant.site, &format!("/radiology/{DROP}"));
    let order = |plant: &Plant, word: &str| plant.site.sealdrop(&[word, &drop, "--reason", "test"]).ok();
    plant.disk.film();
    for (word, done) in [("hold", "held"), ("release", "released")] {
        order(&plant, word);
        plant.disk.hear(done);
    }
    let film = plant.disk.frames();
    for seed in 1..=5 {
        let state = cut_in(&mut plant, &film, seed);
        plant.site.ask(&["sweep"]);
        assert_reads(&plant, DROP);
        assert_reads(&plant, OTHER);
        let is_held = state_of(&plant.site, &drop) == "held";
        match (state.heard().contains("held"), state.heard().contains("released")) {
            (_, true) => assert!(!is_held, "it was released"),
            // It may be released by then, and nobody told.
            (true, false) => assert!(is_held || !plant.site.events_of("released", "").is_empty(), "it was held"),
            (false, false) => {}
        }
        if !is_held {
            order(&plant, "hold");
        }
        plant.site.age();
        cut_again(&mut plant);
        assert_reads(&plant, DROP);
        assert_eq!(plant.site.recipient(RADIOLOGY).delivered(), [DROP], "the other has expired");
        order(&plant, "release");
        plant.site.age();
        assert_eq!(state_of(&plant.site, &drop), "expired");
        assert_eq!(opens(&plant.site, &plant.site.snapshot("jails")), [""; 0]);
    }
}

#[test]
fn between_any_two_changes_of_recipients_a_power_cut_leaves_every_drop_to_whom_it_is_sent() {
    if !may_mount() {
        return;
    }
    for joins in [true, false] {
        let mut plant = Plant::new();
        let (fewer, more) = (&[RADIOLOGY][..], &[RADIOLOGY, LAB][..]);
        send_to(&plant.site, if joins { fewer } else { more });
        assert!(plant.push("/radiology", DROP) && plant.push("/radiology", OTHER));
        send_to(&plant.site, if joins { more } else { fewer });
        plant.disk.film();
        assert_eq!(readdress(&plant.site), "2 of 2 drops changed");
        plant.disk.hear("changed");
        let film = plant.disk.frames();
        for seed in 1..=3 {
            let state = cut_in(&mut plant, &film, seed);
            wait_until_readdressed(&plant.site);
            for name in [DROP, OTHER] {
                assert_reads(&plant, name);
            }
            let again = readdress(&plant.site);
            assert!(!state.heard().contains("changed") || again == "0 of 2 drops changed", "{again}");
            cut_again(&mut plant);
            for name in [DROP, OTHER] {
                assert_reads(&plant, name);
                match joins {
                    true => assert_lab_has(&plant.site, name, &bytes_of(name)),
                    false => assert_has_not(&plant.site, LAB, name),
                }
            }
        }
    }
}
