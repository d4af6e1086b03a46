//! The command line of an exec request, cut into words as a POSIX shell would (XCU 2.2), and nothing more: quotes and
//! backslashes say where a word ends, and everything that would make a shell do something is refused. So what a client
//! wrote for a shell means here what it meant there, or nothing at all.

/// Longer than any line of the commands served; a path is 3 KiB, and its quoting may take four times that.
pub const LINE_MAX: usize = 64 * 1024;

/// `sha256sum` of a whole folder by hand; more is not one line.
pub const WORDS_MAX: usize = 1024;

/// One word of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub bytes: Vec<u8>,
    /// Where `*`, `?` and `[` stood without quotes: a shell would look for names there.
    pub wild: Vec<usize>,
}

impl Word {
    /// The folder part and, where only the last name is one, the pattern: what `scp -f` looks names up by.
    pub fn pattern(&self) -> Option<(&[u8], Pattern<'_>)> {
        let name = self.bytes.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let wild = (*self.wild.first()? >= name).then_some(self.wild.as_slice())?;
        Some((&self.bytes[..name], Pattern { bytes: &self.bytes[name..], wild, offset: name }))
    }
}

/// One name with `*`, `?` or `[…]` in it (XCU 2.13.1 and 2.13.3), in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Pattern<'a> {
    bytes: &'a [u8],
    wild: &'a [usize],
    offset: usize,
}

impl Pattern<'_> {
    /// Whether a shell would give this name. One that begins with a dot is given only for a dot.
    pub fn matches(&self, name: &[u8]) -> bool {
        if name.first() == Some(&b'.') && self.bytes.first() != Some(&b'.') {
            return false;
        }
        // To where a mismatch falls back: after the last star, with one more byte taken by it.
        let (mut at, mut of, mut back) = (0, 0, None);
        while at < name.len() {
            match self.one(of, name[at]) {
                Some(_) if self.is_star(of) => {
                    back = Some((of + 1, at));
                    of += 1;
                }
                Some(next) => (at, of) = (at + 1, next),
                None => match &mut back {
                    Some((after, from)) => {
                        *from += 1;
                        (at, of) = (*from, *after);
                    }
                    None => return false,
                },
            }
        }
        (of..self.bytes.len()).all(|of| self.is_star(of))
    }

    fn is_wild(&self, of: usize, byte: u8) -> bool {
        self.bytes.get(of) == Some(&byte) && self.wild.binary_search(&(of + self.offset)).is_ok()
    }

    fn is_star(&self, of: usize) -> bool {
        self.is_wild(of, b'*')
    }

    /// Where the pattern goes on if what stands at `of` takes `byte`.
    fn one(&self, of: usize, byte: u8) -> Option<usize> {
        if self.is_star(of) || self.is_wild(of, b'?') {
            return Some(of + 1);
        }
        if self.is_wild(of, b'[')
            && let Some((takes, next)) = self.class(of + 1, byte)
        {
            return takes.then_some(next);
        }
        (self.bytes.get(of) == Some(&byte)).then_some(of + 1)
    }

    /// Whether the class whose inside begins at `of` takes `byte`, and where it ends; `None` if it does not end.
    fn class(&self, of: usize, byte: u8) -> Option<(bool, usize)> {
        let not = matches!(self.bytes.get(of)?, b'!' | b'^');
        let begin = of + usize::from(not);
        let end = begin + 1 + self.bytes.get(begin + 1..)?.iter().position(|&b| b == b']')?;
        let mut inside = &self.bytes[begin..end];
        let mut takes = false;
        while let Some((&low, rest)) = inside.split_first() {
            if let [b'-', high, rest @ ..] = rest {
                takes |= (low..=*high).contains(&byte);
                inside = rest;
            } else {
                takes |= low == byte;
                inside = rest;
            }
        }
        Some((takes != not, end + 1))
    }
}

/// Why a line is not one of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    #[error("a quote is not closed")]
    Open,
    #[error("a backslash stands at the end")]
    Backslash,
    #[error("`{}` stands there without quotes, and there is no shell here", char::from(*.0))]
    Shell(u8),
    #[error("the line is too long")]
    TooLong,
    #[error("the line has a NUL byte")]
    Nul,
}

/// Cuts `line` into its words.
pub fn split(line: &[u8]) -> Result<Vec<Word>, WordsError> {
    if line.len() > LINE_MAX {
        return Err(WordsError::TooLong);
    }
    if line.contains(&0) {
        return Err(WordsError::Nul);
    }
    let mut words = Vec::new();
    // `None` between words: `''` is a word, nothing is none.
    let mut word: Option<Word> = None;
    let mut rest = line;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if matches!(byte, b' ' | b'\t') {
            words.extend(word.take());
            continue;
        }
        // A backslash before the end of a line joins it to the next, and begins no word.
        if let (b'\\', [b'\n', after @ ..]) = (byte, rest) {
            rest = after;
            continue;
        }
        let into = word.get_or_insert_with(|| Word { bytes: Vec::new(), wild: Vec::new() });
        match byte {
            b'\'' => {
                let end = rest.iter().position(|&b| b == b'\'').ok_or(WordsError::Open)?;
                into.bytes.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
            }
            b'"' => rest = double_quoted(rest, &mut into.bytes)?,
            b'\\' => {
                let (&next, after) = rest.split_first().ok_or(WordsError::Backslash)?;
                into.bytes.push(next);
                rest = after;
            }
            b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' | b'$' | b'`' | b'\n' => {
                return Err(WordsError::Shell(byte));
            }
            b'#' if into.bytes.is_empty() => return Err(WordsError::Shell(byte)),
            b'*' | b'?' | b'[' => {
                into.wild.push(into.bytes.len());
                into.bytes.push(byte);
            }
            _ => into.bytes.push(byte),
        }
        if words.len() >= WORDS_MAX {
            return Err(WordsError::TooLong);
        }
    }
    words.extend(word);
    Ok(words)
}

/// What follows a `"`, up to and without the one that closes it; the rest of the line.
fn double_quoted<'a>(mut rest: &'a [u8], into: &mut Vec<u8>) -> Result<&'a [u8], WordsError> {
    loop {
        let (&byte, tail) = rest.split_first().ok_or(WordsError::Open)?;
        rest = tail;
        match (byte, rest) {
            (b'"', _) => return Ok(rest),
            (b'$' | b'`', _) => return Err(WordsError::Shell(byte)),
            (b'\\', [b'\n', after @ ..]) => rest = after,
            (b'\\', [next @ (b'$' | b'`' | b'"' | b'\\'), after @ ..]) => {
                into.push(*next);
                rest = after;
            }
            _ => into.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Vec<String> {
        split(line.as_bytes()).unwrap().into_iter().map(|word| String::from_utf8(word.bytes).unwrap()).collect()
    }

    #[test]
    fn quotes_and_backslashes_mean_what_they_mean_to_a_shell() {
        for (line, expected) in [
            ("", &[][..]),
            ("  \t ", &[]),
            ("receipt /a/b", &["receipt", "/a/b"]),
            ("  a   b ", &["a", "b"]),
            (r"a\ b c", &["a b", "c"]),
            ("'a b'c\"d e\"", &["a bcd e"]),
            ("'' \"\"", &["", ""]),
            (r#"'a\b' "a\b" "a\"b\$\`\\""#, &[r"a\b", r"a\b", "a\"b$`\\"]),
            ("'a\nb' a\\\nb \\\n c", &["a\nb", "ab", "c"]),
            (r"'it'\''s'", &["it's"]),
            ("~/x a#b {1..2} !x a=b", &["~/x", "a#b", "{1..2}", "!x", "a=b"]),
            ("'$x;`(' ü", &["$x;`(", "ü"]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }

    #[test]
    fn whatever_a_shell_would_act_upon_is_refused() {
        for line in
            ["a;b", "a|b", "a&b", "a&&b", "a>b", "a<b", "(a)", "a $x", "a \"$x\"", "a `b`", "a \"`b`\"", "a\nb", "a #b"]
        {
            assert!(matches!(split(line.as_bytes()), Err(WordsError::Shell(_))), "{line}");
        }
        assert_eq!(split(b"a 'b"), Err(WordsError::Open));
        assert_eq!(split(b"a \"b"), Err(WordsError::Open));
        assert_eq!(split(b"a b\\"), Err(WordsError::Backslash));
        assert_eq!(split(b"a\0b"), Err(WordsError::Nul));
        assert_eq!(split(&vec![b'a'; LINE_MAX + 1]), Err(WordsError::TooLong));
        assert_eq!(split(&b"a ".repeat(WORDS_MAX + 1)), Err(WordsError::TooLong));
    }

    #[test]
    fn a_pattern_is_told_from_a_name_that_looks_like_one() {
        let words = split(br"a* 'a*' a\*? x[1]").unwrap();
        let wild: Vec<_> = words.iter().map(|word| word.wild.as_slice()).collect();
        assert_eq!(wild, [&[1][..], &[], &[2], &[1]]);
    }

    #[test]
    fn a_pattern_gives_the_names_a_shell_gives() {
        let given = |line: &str, names: &[&str]| -> Vec<String> {
            let words = split(line.as_bytes()).unwrap();
            let (_, pattern) = words[0].pattern().unwrap();
            names.iter().filter(|name| pattern.matches(name.as_bytes())).map(|name| (*name).to_owned()).collect()
        };
        let names = ["a.dcm", "b.dcm", "ab.dcm", "a*.dcm", ".a.dcm", "a.zip", "]"];
        assert_eq!(given("/x/*.dcm", &names), ["a.dcm", "b.dcm", "ab.dcm", "a*.dcm"]);
        assert_eq!(given("?.dcm", &names), ["a.dcm", "b.dcm"]);
        assert_eq!(given("[b-z].dcm", &names), ["b.dcm"]);
        assert_eq!(given("[!b]*", &names), ["a.dcm", "ab.dcm", "a*.dcm", "a.zip", "]"]);
        assert_eq!(given("[]]*", &names), ["]"]);
        assert_eq!(given(r"a\**", &names), ["a*.dcm"]);
        assert_eq!(given(".*", &names), [".a.dcm"]);
        assert_eq!(given("*", &[]), [""; 0]);
        assert_eq!(given("[a*", &["[ab", "a"]), ["[ab"]);
        let words = split(br"/a*/b /a/b* /a/b\* ").unwrap();
        let folders: Vec<_> = words.iter().map(|word| word.pattern().map(|(folder, _)| folder)).collect();
        assert_eq!(folders, [None, Some(&b"/a/"[..]), None]);
    }

    /// In single quotes, as `shlex.quote` and most scripts do it.
    fn single_quoted(word: &[u8]) -> Vec<u8> {
        let mut out = vec![b'\''];
        for &byte in word {
            if byte == b'\'' { out.extend_from_slice(b"'\\''") } else { out.push(byte) }
        }
        out.push(b'\'');
        out
    }

    proptest! {
        #[test]
        fn any_words_come_back_from_their_quoted_form(
            words in proptest::collection::vec(proptest::collection::vec(1u8.., 0..20), 0..8)
        ) {
            let line: Vec<_> = words.iter().map(|word| single_quoted(word)).collect();
            let split: Vec<_> = split(&line.join(&b' ')).unwrap().into_iter().map(|word| word.bytes).collect();
            prop_assert_eq!(split, words);
        }

        #[test]
        fn any_word_comes_back_behind_backslashes(word in proptest::collection::vec(1u8.., 1..40)) {
            prop_assume!(!word.contains(&b'\n'));
            let line: Vec<u8> = word.iter().flat_map(|&byte| [b'\\', byte]).collect();
            prop_assert_eq!(split(&line).unwrap(), [Word { bytes: word, wild: Vec::new() }]);
        }

        #[test]
        fn a_star_takes_whatever_there_is(before: Vec<u8>, middle: Vec<u8>, after: Vec<u8>) {
            prop_assume!(!before.contains(&b'/') && !after.contains(&b'/'));
            let word = Word { bytes: [&b"/"[..], &before, b"*", &after].concat(), wild: vec![1 + before.len()] };
            if let Some((_, pattern)) = word.pattern() {
                let name = [&before[..], &middle, &after].concat();
                prop_assert!(pattern.matches(&name) || name.starts_with(b"."));
            }
        }

        #[test]
        fn arbitrary_patterns_never_panic(line: Vec<u8>, name: Vec<u8>) {
            for word in split(&line).unwrap_or_default() {
                if let Some((_, pattern)) = word.pattern() {
                    let _ = pattern.matches(&name);
                }
            }
        }

        #[test]
        fn arbitrary_lines_never_panic(line: Vec<u8>) {
            if let Ok(words) = split(&line) {
                prop_assert!(words.iter().all(|word| word.wild.iter().all(|&at| b"*?[".contains(&word.bytes[at]))));
            }
        }
    }
}
