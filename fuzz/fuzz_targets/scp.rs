//! A stream of `scp -O` reads the same however it is cut into packets.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::sftp::scp::{Event, Line, Sink};

fn read(stream: &[u8], step: usize) -> (Vec<Line>, Vec<u8>, bool) {
    let (mut sink, mut lines, mut data) = (Sink::default(), Vec::new(), Vec::new());
    for mut piece in stream.chunks(step) {
        loop {
            match sink.next(&mut piece) {
                Ok(None) => break,
                Err(_) => return (lines, data, true),
                Ok(Some(Event::Data(bytes))) => data.extend_from_slice(bytes),
                Ok(Some(Event::Done { .. })) => {}
                Ok(Some(Event::Line(line))) => {
                    if let Line::File { size, .. } = line {
                        sink.expect(size);
                    }
                    lines.push(line);
                }
            }
        }
    }
    (lines, data, false)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, stream) = input;
    assert_eq!(read(stream, usize::from(step) + 1), read(stream, stream.len().max(1)));
});
