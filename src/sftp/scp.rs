//! The protocol of `scp -O`, which rcp had before it: lines of one letter and its fields, answered by one byte, with the
//! bytes of a file between. [`Sink`] reads what a client that sends says; [`Answers`] reads what one that receives says.
//! There is no specification; this follows OpenSSH's `scp.c` (10.x), which every other client was made to work with.

/// Names are at most 255 bytes; mode and size before them take less than 64.
const LINE_MAX: usize = 512;

/// A client's complaint is a sentence with a path in it.
const COMPLAINT_MAX: usize = 8 * 1024;

/// One control line of a client that sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `Cmmmm <size> <name>`: a file, whose bytes follow once we have said that we take it.
    File {
        size: u64,
        name: Vec<u8>,
    },
    /// `Dmmmm 0 <name>`: what follows is in this folder, until its [`Line::End`].
    Folder {
        name: Vec<u8>,
    },
    End,
    /// `T<mtime> 0 <atime> 0`: of the file or folder that comes next.
    Times {
        mtime: u32,
        atime: u32,
    },
    /// The client could not do something and goes on.
    Warning,
    /// The client could not do something and ends.
    Fatal,
}

/// What comes next from a client that sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Line(Line),
    /// Bytes of the file.
    Data(&'a [u8]),
    /// The file's bytes are all there; `whole` if the client could read its own file to the end.
    Done {
        whole: bool,
    },
}

/// Why the client's stream is not this protocol. Every one of them ends the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScpError {
    #[error("expected a control record")]
    NotARecord,
    #[error("a control record is too long")]
    TooLong,
    #[error("a mode, size or time is not a number")]
    Number,
    #[error("unexpected filename")]
    Name,
}

/// Reads the stream of a client that sends. It knows nothing of files: who uses it says after a [`Line::File`] that the
/// bytes are wanted.
#[derive(Debug, Default)]
pub struct Sink {
    state: State,
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Lines,
    /// Bytes of a file still to come.
    Data(u64),
    /// The byte after them.
    Status,
    /// The rest of a complaint that stands in place of that byte.
    Complaint,
}

impl Sink {
    /// The bytes of the file just announced come next.
    pub fn expect(&mut self, size: u64) {
        self.state = if size == 0 { State::Status } else { State::Data(size) };
    }

    /// The next event of `input`, which is shortened by what was read; `None` when it takes more.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, ScpError> {
        let Some(&first) = input.first() else { return Ok(None) };
        match self.state {
            State::Data(left) => {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let (data, rest) = input.split_at(len);
                *input = rest;
                self.expect(left - len as u64);
                Ok(Some(Event::Data(data)))
            }
            State::Status => {
                *input = &input[1..];
                match first {
                    0 => {
                        self.state = State::Lines;
                        Ok(Some(Event::Done { whole: true }))
                    }
                    1 | 2 => {
                        self.state = State::Complaint;
                        self.next(input)
                    }
                    _ => Err(ScpError::NotARecord),
                }
            }
            State::Lines | State::Complaint => {
                let complaint = self.state == State::Complaint || matches!(self.line.first().unwrap_or(&first), 1 | 2);
                let Some(line) = self.take_line(input, if complaint { COMPLAINT_MAX } else { LINE_MAX })? else {
                    return Ok(None);
                };
                if std::mem::take(&mut self.state) == State::Complaint {
                    return Ok(Some(Event::Done { whole: false }));
                }
                Line::parse(&line).map(|line| Some(Event::Line(line)))
            }
        }
    }

    /// A whole line without its end.
    fn take_line(&mut self, input: &mut &[u8], max: usize) -> Result<Option<Vec<u8>>, ScpError> {
        let end = input.iter().position(|&byte| byte == b'\n');
        let taken = end.unwrap_or(input.len());
        if self.line.len() + taken > max {
            return Err(ScpError::TooLong);
        }
        self.line.extend_from_slice(&input[..taken]);
        *input = &input[end.map_or(taken, |end| end + 1)..];
        Ok(end.map(|_| std::mem::take(&mut self.line)))
    }
}

impl Line {
    /// Reads one line without its end.
    pub fn parse(line: &[u8]) -> Result<Self, ScpError> {
        let (&kind, rest) = line.split_first().ok_or(ScpError::NotARecord)?;
        match kind {
            1 => Ok(Self::Warning),
            2 => Ok(Self::Fatal),
            b'E' if rest.is_empty() => Ok(Self::End),
            b'T' => {
                let fields: Vec<_> = rest.split(|&byte| byte == b' ').collect();
                let [mtime, _, atime, _] = fields[..] else { return Err(ScpError::Number) };
                Ok(Self::Times { mtime: seconds(mtime)?, atime: seconds(atime)? })
            }
            b'C' | b'D' => {
                let mut fields = rest.splitn(3, |&byte| byte == b' ');
                let (mode, size, name) = (fields.next(), fields.next(), fields.next());
                let (Some(mode), Some(size), Some(name)) = (mode, size, name) else { return Err(ScpError::NotARecord) };
                if mode.len() != 4 || !mode.iter().all(|byte| (b'0'..=b'7').contains(byte)) {
                    return Err(ScpError::Number);
                }
                let size = number(size)?;
                // A name and nothing else: what leads elsewhere was a hole in clients and servers alike (CVE-2018-20685).
                crate::names::FileName::new(name).map_err(|_| ScpError::Name)?;
                let name = name.to_vec();
                Ok(if kind == b'C' { Self::File { size, name } } else { Self::Folder { name } })
            }
            _ => Err(ScpError::NotARecord),
        }
    }
}

fn number(digits: &[u8]) -> Result<u64, ScpError> {
    let text = std::str::from_utf8(digits).map_err(|_| ScpError::Number)?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ScpError::Number);
    }
    text.parse().map_err(|_| ScpError::Number)
}

/// Times before 1970 and after 2106 are the nearest that SFTP has.
fn seconds(digits: &[u8]) -> Result<u32, ScpError> {
    match digits.strip_prefix(b"-") {
        Some(before) => number(before).map(|_| 0),
        None => number(digits).map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)),
    }
}

/// What a client that receives says to a line or a file of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Go,
    /// It does not take this one and goes on.
    Skip,
    /// It ends.
    Stop,
}

/// Reads a receiving client's answers.
#[derive(Debug, Default)]
pub struct Answers {
    /// The kind of a complaint whose line has not ended, and its length so far.
    complaint: Option<(Answer, usize)>,
}

impl Answers {
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, ScpError> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            match (&mut self.complaint, byte) {
                (None, 0) => return Ok(Some(Answer::Go)),
                (None, 1) => self.complaint = Some((Answer::Skip, 0)),
                (None, 2) => self.complaint = Some((Answer::Stop, 0)),
                (None, _) => return Err(ScpError::NotARecord),
                (Some((answer, _)), b'\n') => {
                    let answer = *answer;
                    self.complaint = None;
                    return Ok(Some(answer));
                }
                (Some((_, len)), _) if *len < COMPLAINT_MAX => *len += 1,
                (Some(_), _) => return Err(ScpError::TooLong),
            }
        }
        Ok(None)
    }
}

/// `C` or `D` and its fields. A line's end in a name would end the line; OpenSSH writes it as `\^J`.
pub fn announce(out: &mut Vec<u8>, kind: u8, permissions: u32, size: u64, name: &[u8]) {
    out.push(kind);
    out.extend_from_slice(format!("{:04o} {size} ", permissions & 0o7777).as_bytes());
    for &byte in name {
        if byte == b'\n' { out.extend_from_slice(b"\\^J") } else { out.push(byte) }
    }
    out.push(b'\n');
}

pub fn times(out: &mut Vec<u8>, mtime: u32, atime: u32) {
    out.extend_from_slice(format!("T{mtime} 0 {atime} 0\n").as_bytes());
}

/// `\x01`, after which both sides go on, or `\x02`, after which neither does; on one line.
pub fn complain(out: &mut Vec<u8>, fatal: bool, subject: &[u8], say: &str) {
    out.push(if fatal { 2 } else { 1 });
    out.extend_from_slice(b"scp: ");
    if !subject.is_empty() {
        out.extend_from_slice(crate::names::escaped(subject).as_bytes());
        out.extend_from_slice(b": ");
    }
    out.extend_from_slice(say.as_bytes());
    out.push(b'\n');
}

/// The words after `scp` in an exec request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-t`: the client sends. `-f`: it receives. Exactly one of them.
    pub to: bool,
    pub from: bool,
    pub recursive: bool,
    pub times: bool,
    /// The target must be a folder.
    pub folder: bool,
}

impl Options {
    /// Reads options up to the first word that is none; how many words they were. `None` for one that scp has not.
    pub fn read<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<(Self, usize)> {
        let mut options = Self::default();
        let mut count = 0;
        for word in words {
            let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty()) else { break };
            count += 1;
            if letters == b"-" {
                break;
            }
            for letter in letters {
                match letter {
                    b't' => options.to = true,
                    b'f' => options.from = true,
                    b'r' => options.recursive = true,
                    b'p' => options.times = true,
                    b'd' => options.folder = true,
                    b'v' | b'q' => {}
                    _ => return None,
                }
            }
        }
        (options.to != options.from).then_some((options, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(size: u64, name: &[u8]) -> Line {
        Line::File { size, name: name.to_vec() }
    }

    /// Feeds `stream` in pieces of `step` bytes, takes every file; what came out.
    fn read(stream: &[u8], step: usize) -> Result<Vec<(String, Vec<u8>)>, ScpError> {
        let mut sink = Sink::default();
        let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
        for mut piece in stream.chunks(step.max(1)) {
            while let Some(event) = sink.next(&mut piece)? {
                match event {
                    Event::Data(data) => seen.last_mut().unwrap().1.extend_from_slice(data),
                    Event::Line(line) => {
                        if let Line::File { size, .. } = line {
                            sink.expect(size);
                        }
                        seen.push((format!("{line:?}"), Vec::new()));
                    }
                    Event::Done { whole } => seen.push((format!("done {whole}"), Vec::new())),
                }
            }
        }
        Ok(seen)
    }

    #[test]
    fn a_tree_as_openssh_sends_it_is_read() {
        let stream = b"T1700000000 0 1700000001 0\nD0755 0 a b\nC0644 5 x\xff y\nhello\0C0600 0 empty\n\0E\n";
        let seen = read(stream, stream.len()).unwrap();
        let expected = [
            (Line::Times { mtime: 1_700_000_000, atime: 1_700_000_001 }, &b""[..]),
            (Line::Folder { name: b"a b".to_vec() }, b""),
            (file(5, b"x\xff y"), b"hello"),
        ];
        for ((line, data), (said, got)) in expected.iter().zip(&seen) {
            assert_eq!((format!("{line:?}"), *data), (said.clone(), got.as_slice()));
        }
        let rest: Vec<_> = seen[3..].iter().map(|(said, _)| said.as_str()).collect();
        assert_eq!(rest, ["done true", &format!("{:?}", file(0, b"empty")), "done true", "End"]);
    }

    #[test]
    fn a_file_its_client_could_not_read_is_not_whole() {
        let seen = read(b"C0644 3 x\n\0\0\0\x01scp: x: Input/output error\nE\n", 4).unwrap();
        assert_eq!(seen[1].0, "done false");
        assert_eq!(seen[2].0, "End");
    }

    #[test]
    fn names_that_lead_elsewhere_and_numbers_that_are_none_are_refused() {
        for name in ["..", ".", "", "a/b", "/", "../x"] {
            assert_eq!(Line::parse(format!("C0644 1 {name}").as_bytes()), Err(ScpError::Name), "{name}");
        }
        for line in
            ["C0644 -1 x", "C0644 x x", "C644 1 x", "C0844 1 x", "T1 0 x 0", "T1 0 1", "C0644 99999999999999999999 x"]
        {
            assert_eq!(Line::parse(line.as_bytes()), Err(ScpError::Number), "{line}");
        }
        for line in ["", "X", "Ex", "C0644", "hello"] {
            assert_eq!(Line::parse(line.as_bytes()), Err(ScpError::NotARecord), "{line}");
        }
        assert_eq!(Line::parse(b"T-5 0 99999999999 0"), Ok(Line::Times { mtime: 0, atime: u32::MAX }));
        assert_eq!(read(&[b'C'; LINE_MAX + 1], 7), Err(ScpError::TooLong));
    }

    #[test]
    fn options_are_read_in_clusters() {
        let read = |line: &str| Options::read(line.split(' ').map(str::as_bytes));
        let to = Options { to: true, ..Options::default() };
        assert_eq!(read("-t /x"), Some((to.clone(), 1)));
        assert_eq!(read("-pt /x"), Some((Options { times: true, ..to.clone() }, 1)));
        let all = Options { recursive: true, times: true, folder: true, ..to.clone() };
        assert_eq!(read("-v -r -pd -t -- -x"), Some((all, 5)));
        let from = Options { from: true, ..Options::default() };
        assert_eq!(read("-qf a -t"), Some((from, 1)));
        for line in ["", "/x", "-r /x", "-tf /x", "-S /bin/sh -t /x", "-o x -t"] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn a_receiver_answers_with_a_byte_or_a_sentence() {
        let mut answers = Answers::default();
        let mut input = &b"\0\x01no ro"[..];
        assert_eq!(answers.next(&mut input), Ok(Some(Answer::Go)));
        assert_eq!(answers.next(&mut input), Ok(None));
        let mut input = &b"om\n\x02end\nx"[..];
        assert_eq!(answers.next(&mut input), Ok(Some(Answer::Skip)));
        assert_eq!(answers.next(&mut input), Ok(Some(Answer::Stop)));
        assert_eq!(answers.next(&mut input), Err(ScpError::NotARecord));
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_read_the_same(
            names in proptest::collection::vec("[a-z ü]{1,20}", 1..5), step in 1usize..40, seed: u8
        ) {
            let mut stream = Vec::new();
            for (n, name) in names.iter().enumerate() {
                announce(&mut stream, b'C', 0o640, n as u64 * 7, name.as_bytes());
                stream.extend(std::iter::repeat_n(seed, n * 7));
                stream.push(0);
            }
            let whole = read(&stream, stream.len()).unwrap();
            prop_assert_eq!(whole.len(), names.len() * 2);
            prop_assert_eq!(read(&stream, step).unwrap(), whole);
        }

        #[test]
        fn what_we_announce_is_what_we_read(name in proptest::collection::vec(1u8.., 1..60), size: u64) {
            prop_assume!(crate::names::FileName::new(&name).is_ok() && !name.contains(&b'\n'));
            let mut line = Vec::new();
            announce(&mut line, b'C', 0o100_640, size, &name);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert_eq!(Line::parse(&line), Ok(file(size, &name)));
        }

        #[test]
        fn arbitrary_streams_never_panic(stream: Vec<u8>, step in 1usize..20) {
            let _ = read(&stream, step);
            let mut answers = Answers::default();
            let mut input = stream.as_slice();
            while let Ok(Some(_)) = answers.next(&mut input) {}
        }
    }
}
