//! Micro-benchmarks: what a transfer does for each record, each packet and each file, by itself, without a client, a disk
//! or a second process. `cargo bench` times each work with criterion; `scripts/instructions` runs each under callgrind and
//! holds its instructions to `benches/instructions.txt`. What a whole server does is `scripts/bench`'s.

mod bodies;
mod keys;
mod ledger;
mod policy;
mod sftp;

use criterion::{Criterion, Throughput};

/// As in the program: allocating is part of the work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One thing that can be done again and again, with everything it needs made beforehand.
pub struct Work {
    pub name: &'static str,
    /// Of content that one go moves; `None` where time does not grow with bytes.
    pub bytes: Option<usize>,
    pub go: Box<dyn FnMut()>,
}

impl Work {
    fn new(name: &'static str, go: impl FnMut() + 'static) -> Self {
        Self { name, bytes: None, go: Box::new(go) }
    }

    fn of_bytes(name: &'static str, bytes: usize, go: impl FnMut() + 'static) -> Self {
        Self { bytes: Some(bytes), ..Self::new(name, go) }
    }
}

fn main() {
    let works = [bodies::works(), keys::works(), sftp::works(), policy::works(), ledger::works()];
    let works = works.into_iter().flatten();
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("--count").is_some() {
        let begins: Vec<String> = words.collect();
        count(works.filter(|work| begins.is_empty() || begins.iter().any(|begin| work.name.starts_with(begin))));
    } else if words.any(|word| word == "--bench") {
        time(works);
    } else {
        // `cargo test` runs this as well, with words for tests, of which criterion takes but one.
        works.for_each(|mut work| (work.go)());
    }
}

/// Of these the instructions are counted, so that an allocation's bad luck now and then is shared out.
const GOES: u32 = 16;

/// Says each name, in the order in which callgrind writes its profiles. A first go finds out what the processor can do,
/// and makes buffers as large as they stay.
fn count(works: impl Iterator<Item = Work>) {
    for mut work in works {
        (work.go)();
        instructions_are_counted_here(&mut work);
        println!("{} {GOES}", work.name);
    }
}

/// Callgrind collects from where this begins to where it ends: `scripts/instructions` knows it by name.
#[inline(never)]
fn instructions_are_counted_here(work: &mut Work) {
    for _ in 0..GOES {
        (work.go)();
    }
}

fn time(works: impl Iterator<Item = Work>) {
    let mut criterion = Criterion::default().configure_from_args();
    for mut work in works {
        let (area, what) = work.name.split_once('/').expect("area/what");
        let mut group = criterion.benchmark_group(area);
        if let Some(bytes) = work.bytes {
            group.throughput(Throughput::Bytes(bytes as u64));
        }
        group.bench_function(what, |bencher| bencher.iter(&mut work.go));
        group.finish();
    }
    criterion.final_summary();
}
