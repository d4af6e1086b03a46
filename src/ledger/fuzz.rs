//! Doors for the fuzz targets alone (`--cfg fuzzing`): the journal's frames and heads, and the records of the databases.

use super::frame::{FrameError, PAYLOAD_MAX, SegmentHead, read_frame, settled_in, write_frame};
use super::record::{DropRecord, ReceiptRecord};

/// Bytes from the disk, as they are and as the payload of a frame whose hash is right.
pub fn frames(bytes: &[u8]) {
    let _ = read_frame(bytes, 1, &[0; 32]);
    let _ = settled_in(bytes);
    let _ = SegmentHead::read(bytes);
    assert!(bytes.len() <= PAYLOAD_MAX);
    let mut out = Vec::new();
    let hash = write_frame(&mut out, 7, 3, &[1; 32], bytes);
    match read_frame(&out, 7, &[1; 32]) {
        // What was read is written to bytes that read the same; they need not be these, for a number may be written longer.
        Ok(frame) => {
            assert!((frame.hash, frame.settled, frame.len) == (hash, 3, out.len()));
            let again = frame.entry.to_bytes().map(|bytes| postcard::from_bytes(&bytes));
            assert!(again == Ok(Ok(frame.entry)));
        }
        Err(error) => assert_eq!(error, FrameError::Content),
    }
    assert!(read_frame(&out, 8, &[1; 32]).is_err());
    out.pop();
    assert_eq!(read_frame(&out, 7, &[1; 32]), Err(FrameError::Short));
}

/// A value of a database.
pub fn records(bytes: &[u8]) {
    let _ = postcard::from_bytes::<DropRecord>(bytes);
    let _ = postcard::from_bytes::<ReceiptRecord>(bytes);
}
