//! Doors for the fuzz targets alone (`--cfg fuzzing`): the fields that stand behind a tag which no fuzzer can forge.

use super::{Journal, Trailer, Waiting};

/// The fields of a trailer, a journal and a note, as they are after their seal was opened.
pub fn fields(bytes: &[u8]) {
    for size in [0, 1 << 20] {
        let _ = Trailer::from_fields(bytes, size);
    }
    let _ = Journal::from_fields(bytes);
    let _ = Waiting::from_fields(bytes);
}
