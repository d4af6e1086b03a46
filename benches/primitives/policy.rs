//! Decisions, by the sample policies of `config/`: what is permitted, what is refused, and what a listing asks about each name.

use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;

use sealdrop::clock::Time;
use sealdrop::config::policy_of;
use sealdrop::names::UserName;
use sealdrop::policy::{Facts, Operation, Policy, PolicyText, Verdict, decide};
use sealdrop::vpath::VirtualPath;

use crate::Work;

const SAMPLES: [&str; 4] = ["acme-imaging", "city-lab", "st-mary-radiology", "ward-seven"];

pub fn works() -> Vec<Work> {
    let policy = Rc::new(samples());
    let permitted = |verdict: &Verdict| matches!(verdict, Verdict::Permit(_));
    let refused = |verdict: &Verdict| matches!(verdict, Verdict::Refuse(_));
    vec![
        parse_path(),
        work("policy/permit-upload", &policy, "/radiology/2026/a.dcm", |path| Operation::Upload { path }, permitted),
        work("policy/refuse-upload", &policy, "/radiology/2026/a.exe", |path| Operation::Upload { path }, refused),
        work("policy/permit-stat", &policy, "/radiology/2026/a.dcm", |path| Operation::Stat { path }, permitted),
    ]
}

fn samples() -> Policy {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policies");
    let text = |name: &str| {
        let name = format!("{name}.toml");
        PolicyText { bytes: std::fs::read(folder.join(&name)).unwrap(), name }
    };
    policy_of(&SAMPLES.map(text)).unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

/// Before each decision a client's bytes become a path.
fn parse_path() -> Work {
    Work::new("policy/parse-path", || {
        black_box(VirtualPath::parse(black_box(b"/radiology/2026/a.dcm")).unwrap());
    })
}

fn work(
    name: &'static str,
    policy: &Rc<Policy>,
    path: &str,
    operation: impl for<'a> Fn(&'a VirtualPath) -> Operation<'a> + 'static,
    expected: impl Fn(&Verdict) -> bool + 'static,
) -> Work {
    let policy = policy.clone();
    let user: UserName = "acme-imaging".parse().unwrap();
    let path = VirtualPath::parse(path.as_bytes()).unwrap();
    Work::new(name, move || {
        let address = Some([203, 0, 113, 9].into());
        let facts = Facts { user: &user, address, now: Time(1_795_308_143_000) };
        let verdict = decide(black_box(&policy), &facts, &operation(&path));
        assert!(expected(&verdict));
        drop(black_box(verdict));
    })
}
