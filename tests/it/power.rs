//! Power cuts: the state directory lies on a disk that forgets what was not synced ([`disk`]), clients push, the power
//! goes, the machine comes up again. What a client was told is then so, whatever else was lost.
//!
//! Each test takes its chances from fixed seeds and says on failure which. `SEALDROP_TEST_SEEDS=200` tries so many rounds
//! instead of a few, `SEALDROP_TEST_SEED=1000` begins at another.

mod disk;
mod mount;
mod plant;

use sealdrop::cli::demo::place::RADIOLOGY;

pub use disk::Disk;
pub use mount::Mounted;

use disk::{Dice, Loss};
use plant::{Plant, bytes_of};

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
    let mut plant = Plant::new();
    for seed in seeds(6) {
        let mut dice = Dice(seed);
        let names = |client: u64| {
            let sizes = [20_000, 300_000, if client == 0 { 9_000_000 } else { 1 }];
            sizes.map(|size| format!("r{seed}c{client}-{size}.dcm"))
        };
        plant.disk.cut_after(dice.below(CHANGES_A_ROUND) as u64);
        std::thread::scope(|scope| {
            for client in 0..3 {
                let plant = &plant;
                scope.spawn(move || names(client).iter().take_while(|name| plant.push("/radiology", name)).count());
            }
        });
        let state = plant.disk.cut();
        eprintln!("seed {seed}: {} changes, {} heard", plant.disk.changes(), state.heard().len());
        plant.come_up(&state, Loss::Some(dice.roll()));
        plant.check(&state);
        for client in 0..3 {
            let names = names(client);
            plant.complete("/radiology", &[names[0].as_str(), &names[2]]);
        }
    }
    plant.assert_no_plaintext();
}

#[test]
fn the_client_hears_ok_and_the_power_goes() {
    for loss in [Loss::Everything, Loss::Some(1), Loss::Nothing] {
        let mut plant = Plant::new();
        assert!(plant.push("/radiology", "first-3000000.dcm"));
        let state = plant.disk.cut();
        plant.come_up(&state, loss);
        plant.check(&state);
        assert!(plant.push("/radiology", "second-70000.dcm"));
        let state = plant.disk.cut();
        plant.come_up(&state, loss);
        plant.check(&state);
        let _ = (RADIOLOGY, bytes_of);
    }
}
