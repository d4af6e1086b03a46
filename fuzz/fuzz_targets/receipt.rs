//! A text that is read as a receipt is the one text that receipt has.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::ledger::Receipt;

fuzz_target!(|text: &str| {
    if let Ok(receipt) = Receipt::parse(text) {
        assert_eq!(receipt.text(), text);
    }
});
