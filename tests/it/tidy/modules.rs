//! Modules are declared outermost first, and a module imports only modules declared below it.
//!
//! The order of the `mod` lines is then the reading order, and the proof that there is no cycle. A
//! module may always use its own submodules and the items of the modules it lies in.

use std::collections::BTreeMap;

use super::source::{Source, Without};

/// One module: the file it is in, and the modules that it declares, in order.
struct Module<'a> {
    source: &'a Source,
    children: Vec<String>,
    /// Items that it gives away as its own, and the child each comes from.
    exports: BTreeMap<String, String>,
}

/// The modules of a crate by their paths from its root, which is the empty path.
type Tree<'a> = BTreeMap<Vec<String>, Module<'a>>;

pub(crate) fn check(root: &str, sources: &[Source]) -> Vec<String> {
    let mut tree = Tree::new();
    grow(&mut tree, Vec::new(), root, sources);
    let mut complaints = Vec::new();
    for (path, module) in &tree {
        let code = module.source.production(Without::CommentsAndTexts);
        for target in references(&code, path) {
            complaints.extend(complaint(&tree, path, &target));
        }
    }
    complaints.sort();
    complaints.dedup();
    complaints
}

fn grow<'a>(tree: &mut Tree<'a>, path: Vec<String>, file: &str, sources: &'a [Source]) {
    let source = sources.iter().find(|source| source.path == file);
    let source = source.unwrap_or_else(|| panic!("{file} is declared and not there"));
    let code = source.production(Without::CommentsAndTexts);
    let children = declared(&code);
    // `lib.rs` lies beside its modules, every other file above them.
    let folder = match path.is_empty() {
        true => file.rsplit_once('/').map_or("", |(folder, _)| folder),
        false => file.trim_end_matches(".rs"),
    };
    for child in &children {
        let path = path.iter().cloned().chain([child.clone()]).collect();
        grow(tree, path, &format!("{folder}/{child}.rs"), sources);
    }
    let exports = exports(&code, &children);
    tree.insert(path, Module { source, children, exports });
}

/// The modules that a file declares, without those of its tests.
fn declared(code: &str) -> Vec<String> {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let names = lines.iter().enumerate().filter_map(|(number, line)| {
        let (visibility, name) = line.strip_suffix(';')?.rsplit_once("mod ")?;
        let is_test = number > 0 && lines[number - 1] == "#[cfg(test)]";
        let is_declaration = visibility.is_empty() || visibility.trim().starts_with("pub");
        (is_declaration && !is_test).then(|| name.to_owned())
    });
    names.collect()
}

/// `pub use child::Item`, `pub(crate) use self::child::{Item, Other}`.
fn exports(code: &str, children: &[String]) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    for (at, _) in code.match_indices("use ").filter(|(at, _)| is_public(&code[..*at])) {
        let statement = code[at + 4..].split(';').next().unwrap_or_default();
        for path in expand(statement) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            if let Some((child, [.., item])) = without_self(&path).split_first()
                && children.iter().any(|name| name == child)
            {
                exports.insert((*item).to_owned(), (*child).to_owned());
            }
        }
    }
    exports
}

fn is_public(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default().trim();
    line.starts_with("pub")
}

fn without_self<'a>(path: &'a [&'a str]) -> &'a [&'a str] {
    path.strip_prefix(&["self"]).unwrap_or(path)
}

/// Every path from the crate's root that the code names, by `crate::`, `super::` or `self::`.
fn references(code: &str, own: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = &code[..at];
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '$');
            if before.ends_with(is_part) {
                continue;
            }
            for path in expand(&code[at..]) {
                found.push(from_root(&path, own));
            }
        }
    }
    found
}

fn from_root(path: &[String], own: &[String]) -> Vec<String> {
    let mut base = own.to_vec();
    let mut rest = path;
    while let Some((first, others)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = others;
    }
    base.extend(rest.iter().cloned());
    base
}

/// The paths that a use tree at the beginning of `text` stands for; it ends where no path goes on.
fn expand(text: &str) -> Vec<Vec<String>> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if word.is_empty() {
        return Vec::new();
    }
    let Some(rest) = text[word.len()..].strip_prefix("::") else { return vec![vec![word]] };
    let tails = match rest.strip_prefix('{') {
        Some(group) => parts(group).into_iter().flat_map(|part| expand(part.trim())).collect(),
        None => expand(rest),
    };
    if tails.is_empty() {
        return vec![vec![word]];
    }
    let with_word = |tail: Vec<String>| [vec![word.clone()], tail].concat();
    tails.into_iter().map(with_word).collect()
}

/// The parts of a group between its braces, at its own depth.
fn parts(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&group[start..at]);
                return found;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// What is wrong with `own` naming `target`, if anything.
fn complaint(tree: &Tree<'_>, own: &[String], target: &[String]) -> Option<String> {
    let common = own.iter().zip(target).take_while(|(a, b)| a == b).count();
    // Its own submodule, or an item of its own.
    let from = own.get(common)?;
    let parent = tree.get(&own[..common])?;
    let named = target.get(common)?;
    // An item of the crate's root is what the root gives away as its own.
    let to = match parent.exports.get(named) {
        Some(child) if common == 0 => child,
        Some(_) | None => named,
    };
    let place = |name: &String| parent.children.iter().position(|child| child == name);
    if place(from)? <= place(to)? {
        return None;
    }
    let (file, parent) = (&tree.get(own)?.source.path, &parent.source.path);
    Some(format!("{file}: uses {to}, which {parent} declares above {from}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::new(path, text)).collect();
        check("a/lib.rs", &sources)
    }

    #[test]
    fn a_module_may_use_what_is_below_it() {
        let complaints = checked(&[
            ("a/lib.rs", "pub mod top;\nmod low;\npub use low::Item;\n#[cfg(test)]\nmod tests;"),
            ("a/top.rs", "mod one;\nmod two;\nuse self::two::T;\nuse crate::{Item, low::{A, B}};"),
            ("a/top/one.rs", "use super::two::T;\nuse super::Own;\nuse crate::low;"),
            ("a/top/two.rs", "// use super::one;\nfn f() { $crate::top::x() }"),
            ("a/low.rs", "struct Item;\n#[cfg(test)]\nmod tests { use crate::top; }"),
        ]);
        assert_eq!(complaints, Vec::<String>::new());
    }

    #[test]
    fn a_module_may_not_use_what_is_above_it() {
        let complaints = checked(&[
            ("a/lib.rs", "pub mod top;\nmod low;\npub use top::Item;"),
            ("a/top.rs", "mod one;\npub(crate) mod two;"),
            ("a/top/one.rs", ""),
            ("a/top/two.rs", "use super::{Own, one::{C, D}};"),
            ("a/low.rs", "use crate::Item;\nfn f() { crate::top::one::g() }"),
        ]);
        assert_eq!(
            complaints,
            [
                "a/low.rs: uses top, which a/lib.rs declares above low",
                "a/top/two.rs: uses one, which a/top.rs declares above two",
            ]
        );
    }

    #[test]
    fn groups_are_taken_apart() {
        let paths: Vec<String> =
            expand("a::{b, c::{d, e as f},\n g::*, self}; x").iter().map(|p| p.join("/")).collect();
        assert_eq!(paths, ["a/b", "a/c/d", "a/c/e", "a/g", "a/self"]);
    }
}
