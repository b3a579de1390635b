//! One source file, and views of it without what a rule must not look at.

use std::ops::Range;
use std::path::Path;

/// A source file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Its path in the workspace, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// What a piece of a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Code,
    Comment,
    /// A string's content; its quotes are code.
    Text,
}

/// What a rule does not look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    Comments,
    CommentsAndTexts,
}

/// Reads every `.rs` file below `folder`, in the order of their names.
pub(crate) fn read_folder(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    let entries = std::fs::read_dir(root.join(folder)).expect("the folder can be read");
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names {
        let path = folder.join(&name);
        if root.join(&path).is_dir() {
            if name != "node_modules" && name != "target" {
                read_folder(root, &path, sources);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(root.join(&path)).expect("the file can be read");
            let path = path.to_string_lossy().replace('\\', "/");
            sources.push(Source { path, text });
        }
    }
}

impl Source {
    #[cfg(test)]
    pub(crate) fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether all of it is a test: `tests.rs`, a file below a `tests` folder of a crate, or
    /// anything of the tests crate.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }

    /// The text with comments and texts blanked out, its unit tests included.
    pub(crate) fn bare(&self) -> String {
        blank(&self.text, Without::CommentsAndTexts)
    }

    /// The text with comments, and texts where asked, blanked out, and without the unit tests at
    /// its end. Lines and columns stay what they are.
    pub(crate) fn production(&self, without: Without) -> String {
        let bare = blank(&self.text, Without::CommentsAndTexts);
        let mut shown = match without {
            Without::Comments => blank(&self.text, Without::Comments),
            Without::CommentsAndTexts => bare.clone(),
        };
        for range in unit_tests(&bare) {
            let hole: String =
                shown[range.clone()].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
            // Other lengths in bytes would shift what follows: pad to the same.
            let hole = format!("{hole}{}", " ".repeat(range.len() - hole.len()));
            shown.replace_range(range, &hole);
        }
        shown
    }
}

/// Where `#[cfg(test)] mod name { … }` stands.
fn unit_tests(bare: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for (start, marker) in bare.match_indices("#[cfg(test)]") {
        let after = &bare[start + marker.len()..];
        let item = after.trim_start();
        let open = item.find('{').unwrap_or(item.len());
        let is_block = item.starts_with("mod ") && !item[..open].contains(';');
        if is_block && open < item.len() {
            let open = bare.len() - item.len() + open;
            ranges.push(start..closing_brace(bare, open));
        }
    }
    ranges
}

fn closing_brace(bare: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in bare[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    bare.len()
}

/// The text with what a rule does not look at replaced by spaces of the same length in bytes.
fn blank(text: &str, without: Without) -> String {
    let mut out = String::with_capacity(text.len());
    for (piece, range) in pieces(text) {
        let part = &text[range];
        let keep = match piece {
            Piece::Code => true,
            Piece::Comment => false,
            Piece::Text => without == Without::Comments,
        };
        if keep {
            out.push_str(part);
            continue;
        }
        for c in part.chars() {
            if c == '\n' {
                out.push('\n');
            } else {
                out.extend(std::iter::repeat_n(' ', c.len_utf8()));
            }
        }
    }
    out
}

/// Cuts a text into code, comments and the contents of strings.
fn pieces(text: &str) -> Vec<(Piece, Range<usize>)> {
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        let rest = &text[at..];
        let special = if rest.starts_with("//") {
            Some((Piece::Comment, at, at + rest.find('\n').unwrap_or(rest.len())))
        } else if rest.starts_with("/*") {
            Some((Piece::Comment, at, at + rest.find("*/").map_or(rest.len(), |end| end + 2)))
        } else if bytes[at] == b'"' {
            Some((Piece::Text, at + 1, end_of_string(text, at)))
        } else {
            None
        };
        match special {
            Some((piece, from, to)) => {
                pieces.push((Piece::Code, start..from));
                pieces.push((piece, from..to));
                (start, at) =
                    (to, if piece == Piece::Text { (to + 1).min(text.len()) } else { to });
            }
            None => at += after_code(rest),
        }
    }
    pieces.push((Piece::Code, start..text.len()));
    pieces
}

/// How far code goes on: over a whole character literal, so that `'"'` opens no string.
fn after_code(rest: &str) -> usize {
    let mut chars = rest.chars();
    let first = chars.next().map_or(1, char::len_utf8);
    if rest.starts_with("'\\") {
        return rest[3..].find('\'').map_or(first, |end| end + 4);
    }
    match (chars.next(), chars.next()) {
        (Some(literal), Some('\'')) if rest.starts_with('\'') => 2 + literal.len_utf8(),
        _ => first,
    }
}

/// Where the string that is opened at `open` ends: at its closing quote. How many `#` it takes to
/// close it, and whether a backslash escapes, is told by what stands before.
fn end_of_string(text: &str, open: usize) -> usize {
    let before = text[..open].trim_end_matches('#');
    let hashes = open - before.len();
    let is_raw = before.ends_with('r') && !before.ends_with("or");
    let closing = format!("\"{}", "#".repeat(hashes));
    let body = &text[open + 1..];
    if is_raw {
        return body.find(&closing).map_or(text.len(), |end| open + 1 + end);
    }
    let mut is_escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            '"' if !is_escaped => return open + 1 + at,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

#[test]
fn comments_texts_and_unit_tests_are_left_out() {
    let text = "use a; // crate::b\nlet c = '\"'; let s = \"crate::d \\\" x\";\n\
                let r = r#\"crate::\"e\"#; /* crate::f */ fn g<'a>(h: &'a str) {}\n\
                #[cfg(test)]\nmod tests {\n    use crate::i;\n}\nfn j() {}\n";
    let source = Source::new("a/src/b.rs", text);
    let bare = source.production(Without::CommentsAndTexts);
    for gone in ["::b", "::d", "x\"", "::\"e", "::f", "::i"] {
        assert!(!bare.contains(gone), "{gone} is still in\n{bare}");
    }
    for kept in ["use a;", "'\"'", "fn g<'a>(h: &'a str) {}", "fn j() {}"] {
        assert!(bare.contains(kept), "{kept} is gone from\n{bare}");
    }
    assert_eq!(bare.lines().count(), text.lines().count());
    assert!(source.production(Without::Comments).contains("crate::d"));
}
