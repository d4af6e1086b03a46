//! Any text is a policy or settings, or a list of problems that can be shown with their lines.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::config::{Schedule, policy_of, settings_of_text};
use sealdrop::policy::PolicyText;

fuzz_target!(|bytes: &[u8]| {
    if let Err(problems) = policy_of(&[PolicyText { name: "acme.toml".into(), bytes: bytes.to_vec() }]) {
        assert!(!problems.render(false).is_empty());
    }
    if let Err(problems) = settings_of_text(bytes) {
        assert!(!problems.render(false).is_empty());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Schedule::parse(text, "Europe/Berlin");
    }
});
