//! Names that say nothing: of files, and of types.

use super::source::{Source, Without};

const VAGUE_FILES: [&str; 6] = ["mod", "utils", "helpers", "common", "types", "manager"];

const VAGUE_WORDS: [&str; 11] = [
    "Manager", "Handler", "Helper", "Service", "Util", "Common", "Info", "Data", "Impl", "Base",
    "Core",
];

pub(crate) fn check(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let file = source.path.rsplit('/').next().unwrap_or(&source.path);
    let stem = file.trim_end_matches(".rs");
    if VAGUE_FILES.contains(&stem) {
        complaints.push(format!("{}: name the file after what is in it", source.path));
    }
    let code = source.production(Without::CommentsAndTexts);
    for (number, line) in code.lines().enumerate() {
        let Some(name) = declared_type(line) else { continue };
        if VAGUE_WORDS.contains(&last_word(name)) {
            let place = format!("{}:{}", source.path, number + 1);
            complaints.push(format!("{place}: {name} does not say what it is"));
        }
    }
    complaints
}

/// The type or trait that a line declares.
fn declared_type(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    words.find(|word| matches!(*word, "struct" | "enum" | "trait"))?;
    let name = words.next()?;
    Some(name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(name))
}

/// The last word of a name in camel case.
fn last_word(name: &str) -> &str {
    name.rfind(char::is_uppercase).map_or(name, |at| &name[at..])
}

#[test]
fn vague_names_are_found_as_whole_words_only() {
    let vague = |path: &str, text: &str| check(&Source::new(path, text)).len();
    assert_eq!(vague("a/src/room.rs", "pub struct Metadata;\nstruct Database;\nenum Score {}"), 0);
    assert_eq!(vague("a/src/room.rs", "// struct RoomManager\nstruct Handle<T>(T);"), 0);
    assert_eq!(vague("a/src/room.rs", "pub(crate) struct RoomManager<T> {"), 1);
    assert_eq!(vague("a/src/room.rs", "trait RoomService {}\nenum Info {}\nstruct UserData;"), 3);
    assert_eq!(vague("a/src/room/mod.rs", ""), 1);
    assert_eq!(vague("a/src/utils.rs", ""), 1);
}
