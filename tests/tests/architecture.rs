//! The house keeps its shape: arrows between crates point down, files say what they are for, and the documents name
//! only what exists. Each rule is a pure function, and each is shown a planted offence that it has to find.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

// Arrows between crates.

/// The folders of `crates/` from bottom to top, and in each the crates from bottom to top. A crate may use crates of
/// lower layers and of earlier groups of its own layer; crates of one group do not know each other.
const HOUSE: &[(&str, &[&[&str]])] = &[
    ("foundation", &[&["pugdb-core"], &[SIMULATOR]]),
    ("extensions", &[&["pugdb-lsm", "pugdb-security"], &[ROOF], &["pugdb-sql"], &["pugdb-sql-engine"]]),
    ("distributed", &[&["pugdb-wire"], &["pugdb-server", "pugdb-client", "pugdb-cluster", "pugdb-sync"]]),
    ("cloud", &[&["pugdb-cloud"]]),
    ("application", &[&["pugdb-ycsb"], &["pugdb-cli", "pugdb-ffi"]]),
];
/// Above it nobody names what is below it.
const ROOF: &str = "pugdb";
/// Never part of a product.
const SIMULATOR: &str = "pugdb-sim";
/// May use everything, and nobody may use it.
const TESTS: &str = "pugdb-tests";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// In the product: a normal or a build dependency.
    Product,
    /// In tests and examples only.
    Dev,
}

/// Layer, then group in the layer. Larger is higher.
fn rank(name: &str) -> Option<(usize, usize)> {
    HOUSE.iter().enumerate().find_map(|(layer, (_, groups))| {
        let group = groups.iter().position(|group| group.contains(&name))?;
        Some((layer, group))
    })
}

/// What is wrong with an arrow between two crates of the workspace, and what to do about it.
fn offence(from: &str, to: &str, kind: Use) -> Option<String> {
    let no_place = |name: &str| {
        Some(format!("{name} has no place in HOUSE in tests/tests/architecture.rs: give it one"))
    };
    if to == TESTS {
        return Some(format!("{from} uses {TESTS}: tests stand above everything; move what both need down"));
    }
    if from == TESTS {
        return None;
    }
    let Some(upper) = rank(from) else { return no_place(from) };
    let Some(lower) = rank(to) else { return no_place(to) };
    if to == SIMULATOR && kind == Use::Product {
        return Some(format!(
            "{from} ships {SIMULATOR}: make it a dev-dependency, or move the test to tests/"
        ));
    }
    if lower >= upper {
        return Some(format!(
            "{from} uses {to}, which is not below it: let {to} define a trait that {from} implements, or move the \
             shared part down"
        ));
    }
    let roof = rank(ROOF)?;
    if upper > roof && lower < roof && to != SIMULATOR {
        return Some(format!(
            "{from} looks under the roof at {to}: use what `{ROOF}` exports, or export it there"
        ));
    }
    None
}

/// What is wrong with where a crate lies.
fn misplaced(name: &str, manifest: &str) -> Option<String> {
    let place = match rank(name) {
        _ if name == TESTS => "tests/Cargo.toml".to_owned(),
        Some((layer, _)) => format!("crates/{}/{name}/Cargo.toml", HOUSE[layer].0),
        None => {
            return Some(format!("{name} has no place in HOUSE in tests/tests/architecture.rs: give it one"));
        }
    };
    (!manifest.ends_with(&format!("/{place}"))).then(|| format!("{manifest} belongs to {place}: move it"))
}

fn workspace_metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .expect("cargo runs: it runs this test");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

#[test]
fn arrows_point_down() {
    let metadata = workspace_metadata();
    let packages = metadata["packages"].as_array().expect("there are packages");
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    assert!(names.contains(ROOF) && names.contains(TESTS), "this is not the workspace: {names:?}");
    let mut offences = Vec::new();
    for package in packages {
        let name = package["name"].as_str().expect("a package has a name");
        offences.extend(misplaced(name, package["manifest_path"].as_str().unwrap_or_default()));
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let Some(to) = dependency["name"].as_str().filter(|to| names.contains(to)) else { continue };
            let kind = if dependency["kind"] == "dev" { Use::Dev } else { Use::Product };
            offences.extend(offence(name, to, kind));
        }
    }
    assert_eq!(offences, Vec::<String>::new());
}

#[test]
fn planted_arrows_are_judged_right() {
    let wrong = [
        ("pugdb-core", "pugdb-lsm", "not below it"),
        ("pugdb-core", "pugdb-sim", "ships"),
        ("pugdb-lsm", "pugdb", "not below it"),
        ("pugdb-lsm", "pugdb-security", "not below it"),
        ("pugdb-lsm", "pugdb-sim", "ships"),
        ("pugdb", "pugdb-sql", "not below it"),
        ("pugdb-sql", "pugdb-sql-engine", "not below it"),
        ("pugdb-sql", "pugdb-lsm", "under the roof"),
        ("pugdb", "pugdb-wire", "not below it"),
        ("pugdb-server", "pugdb-client", "not below it"),
        ("pugdb-wire", "pugdb-server", "not below it"),
        ("pugdb-server", "pugdb-lsm", "under the roof"),
        ("pugdb-server", "pugdb-core", "under the roof"),
        ("pugdb-cli", "pugdb-security", "under the roof"),
        ("pugdb-server", "pugdb-cloud", "not below it"),
        ("pugdb-cloud", "pugdb-cli", "not below it"),
        ("pugdb-ycsb", "pugdb-cli", "not below it"),
        ("pugdb-ycsb", "pugdb-core", "under the roof"),
        ("pugdb", "pugdb-tests", "tests stand above"),
        ("pugdb-attic", "pugdb", "has no place"),
        ("pugdb-cli", "pugdb-attic", "has no place"),
    ];
    for (from, to, reason) in wrong {
        let told = offence(from, to, Use::Product).unwrap_or_default();
        assert!(told.contains(reason), "{from} -> {to}: {told:?}");
    }
    // A test is no way around the layers.
    for (from, to) in [("pugdb-core", "pugdb-sim"), ("pugdb-lsm", "pugdb"), ("pugdb-cli", "pugdb-lsm")] {
        assert!(offence(from, to, Use::Dev).is_some(), "{from} -> {to}");
    }
    let right = [
        ("pugdb-sim", "pugdb-core", Use::Product),
        ("pugdb-lsm", "pugdb-core", Use::Product),
        ("pugdb-lsm", "pugdb-sim", Use::Dev),
        ("pugdb", "pugdb-lsm", Use::Product),
        ("pugdb-sql-engine", "pugdb", Use::Product),
        ("pugdb-server", "pugdb-wire", Use::Product),
        ("pugdb-server", "pugdb", Use::Product),
        ("pugdb-server", "pugdb-sim", Use::Dev),
        ("pugdb-cli", "pugdb-wire", Use::Dev),
        ("pugdb-cli", "pugdb-ycsb", Use::Product),
        ("pugdb-tests", "pugdb-sim", Use::Product),
        ("pugdb-tests", "pugdb-lsm", Use::Product),
    ];
    for (from, to, kind) in right {
        assert_eq!(offence(from, to, kind), None);
    }
    assert_eq!(misplaced("pugdb-lsm", "/x/crates/extensions/pugdb-lsm/Cargo.toml"), None);
    assert!(misplaced("pugdb-lsm", "/x/crates/foundation/pugdb-lsm/Cargo.toml").is_some());
}

// Source files.

/// A text file: its path from the root of the repository, and what it says.
struct Text {
    path: PathBuf,
    content: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository")
}

/// Every file below these folders (or the files themselves) with this ending, build output aside.
fn texts(places: &[&str], ending: &str) -> Vec<Text> {
    let mut left: Vec<PathBuf> = places.iter().map(|place| root().join(place)).collect();
    let mut found = Vec::new();
    while let Some(path) = left.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && (!name.starts_with('.') || path == root()) {
            let entries = std::fs::read_dir(&path).expect("the folder can be read");
            left.extend(entries.map(|entry| entry.expect("the folder can be read").path()));
        } else if name.ends_with(ending) && path.is_file() {
            let content = std::fs::read_to_string(&path).expect("source files are UTF-8");
            let path = path.strip_prefix(root()).expect("it was found below the root").to_owned();
            found.push(Text { path, content });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "nothing was found in {places:?}");
    found
}

fn source_files() -> Vec<Text> {
    texts(&["crates", "tests", "fuzz/fuzz_targets"], ".rs")
}

/// Fails with what `judge` says of each file.
fn check_all(files: &[Text], judge: impl Fn(&Text) -> Option<String>) {
    let offences: Vec<String> =
        files.iter().filter_map(|file| Some(format!("{}: {}", file.path.display(), judge(file)?))).collect();
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

fn headless(content: &str) -> Option<String> {
    (!content.starts_with("//! ")).then(|| "begin it with a `//!` line that says what it is for".to_owned())
}

fn named_after_nothing(path: &Path) -> Option<String> {
    let nothing = ["util", "utils", "helper", "helpers", "misc"];
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    (nothing.contains(&&*stem) || nothing.contains(&&*folder)).then(|| {
        "name it after what it holds; anything fits under this name, and so anything ends up there".to_owned()
    })
}

/// Built from pieces, so that this file does not find itself.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[ig", "nore"),
];

fn unfinished(content: &str) -> Option<String> {
    let (number, line) =
        content.lines().enumerate().find(|(_, line)| UNFINISHED.iter().any(|mark| line.contains(mark)))?;
    Some(format!("line {}: finish it, or write it down in an issue: {}", number + 1, line.trim()))
}

/// A `matches!(…);` that stands alone asserts nothing. Returns the number of its line.
fn bare_matches(content: &str) -> Option<usize> {
    const CALL: &str = concat!("matches", "!(");
    content.match_indices(CALL).find_map(|(at, _)| {
        let before = content[..at].trim_end();
        let starts_statement = before.is_empty() || before.ends_with([';', '{', '}']);
        let mut depth = 0;
        let end = content[at..].char_indices().find_map(|(offset, character)| {
            depth += i32::from(character == '(') - i32::from(character == ')');
            (depth == 0 && character == ')').then_some(at + offset + 1)
        })?;
        (starts_statement && content[end..].starts_with(';')).then(|| content[..at].lines().count())
    })
}

/// True when `declaring` holds `mod name;`, with whatever visibility.
fn declares(declaring: &str, name: &str) -> bool {
    let declaration = format!("mod {name};");
    declaring.lines().map(str::trim).any(|line| {
        line.strip_suffix(&declaration).is_some_and(|front| front.is_empty() || front.starts_with("pub"))
    })
}

/// A file that no target and no module reaches is not compiled: nobody notices when it is wrong.
fn is_reached(file: &Path, all: &[Text]) -> bool {
    let folder = file.parent().unwrap_or(Path::new(""));
    let (name, stem) = (file.file_name().unwrap_or_default(), file.file_stem().unwrap_or_default());
    let folder_name = folder.file_name().unwrap_or_default().to_string_lossy();
    let is_target_folder = matches!(&*folder_name, "tests" | "examples" | "benches" | "fuzz_targets" | "bin")
        && !all.iter().any(|other| other.path == folder.join("mod.rs"));
    if name == "main.rs"
        || name == "build.rs"
        || (name == "lib.rs" && folder_name == "src")
        || is_target_folder
    {
        return true;
    }
    // A folder's module is declared one level up.
    let (module, place) = if name == "mod.rs" {
        (&*folder_name, folder.parent().unwrap_or(folder))
    } else {
        (&*stem.to_string_lossy(), folder)
    };
    let by_module = ["mod.rs", "lib.rs", "main.rs"].map(|parent| place.join(parent));
    all.iter().any(|other| {
        (by_module.contains(&other.path) && declares(&other.content, module))
            || other.content.contains(&format!("{folder_name}/{}\"]", name.to_string_lossy()))
    })
}

#[test]
fn every_source_file_says_what_it_is_for() {
    check_all(&source_files(), |file| headless(&file.content));
    assert!(headless("use std::fs;\n").is_some() && headless("//! The log.\n").is_none());
}

#[test]
fn files_are_named_after_what_they_hold() {
    check_all(&source_files(), |file| named_after_nothing(&file.path));
    for path in ["crates/x/src/utils.rs", "crates/x/src/helpers/mod.rs"] {
        assert!(named_after_nothing(Path::new(path)).is_some(), "{path}");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    check_all(&source_files(), |file| unfinished(&file.content));
    for mark in UNFINISHED {
        assert!(unfinished(&format!("//! A file.\n    {mark}\n")).is_some(), "{mark}");
    }
}

#[test]
fn no_check_is_a_bare_matches() {
    check_all(&source_files(), |file| {
        let line = bare_matches(&file.content)?;
        Some(format!("line {line}: it asserts nothing; put assert!() around it"))
    });
    let call = concat!("matches", "!(");
    assert_eq!(bare_matches(&format!("fn f() {{\n    {call}x, Err(_));\n}}\n")), Some(2));
    assert_eq!(
        bare_matches(&format!("fn f() {{\n    g();\n    {call}\n        x, Some((1, 2))\n    );\n}}\n")),
        Some(3)
    );
    for fine in
        ["assert!(@x, Err(_)));", "let is =\n    @x, Err(_));", "fn f() -> bool {\n    @x, Err(_))\n}"]
    {
        assert_eq!(bare_matches(&fine.replace('@', call)), None, "{fine}");
    }
}

#[test]
fn every_source_file_is_compiled() {
    let files = source_files();
    check_all(&files, |file| {
        (!is_reached(&file.path, &files))
            .then(|| "no `mod` line reaches it: add one, or delete the file".to_owned())
    });
    let planted = |path: &str, content: &str| Text { path: path.into(), content: content.to_owned() };
    let crate_files = [planted("crates/x/src/lib.rs", "mod near;\npub(crate) mod far;\n// mod gone;\n")];
    for (path, reached) in
        [("near.rs", true), ("far/mod.rs", true), ("gone.rs", false), ("other/near.rs", false)]
    {
        assert_eq!(is_reached(&Path::new("crates/x/src").join(path), &crate_files), reached, "{path}");
    }
}

// The public face.

/// True for a line that begins a function, struct or enum that other crates see.
fn is_public_item(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("pub")
        && words
            .find(|word| !matches!(*word, "const" | "async" | "unsafe"))
            .is_some_and(|keyword| matches!(keyword, "fn" | "struct" | "enum"))
}

/// The first public item whose doc comment, directly above it, has no example that asserts something. What a trait
/// asks for is told by the trait.
fn without_example(content: &str) -> Option<String> {
    let mut doc = String::new();
    for (number, line) in content.lines().map(str::trim).enumerate() {
        if line.starts_with("///") {
            doc.push_str(line);
        } else if is_public_item(line) && !(doc.contains("```") && doc.contains("assert")) {
            return Some(format!(
                "line {}: show its use in an example with an assertion: {line}",
                number + 1
            ));
        } else if !line.starts_with("#[") {
            doc.clear();
        }
    }
    None
}

#[test]
fn every_public_item_of_the_roof_has_an_example() {
    let files = texts(&["crates/extensions/pugdb/src"], ".rs");
    let is_item = |line: &str| is_public_item(line.trim());
    assert!(files.iter().flat_map(|file| file.content.lines()).filter(|line| is_item(line)).count() > 50);
    check_all(&files, |file| without_example(&file.content));

    let example = "/// Text.\n///\n/// ```\n/// assert!(true);\n/// ```\n";
    for planted in [
        "pub struct S;\n",
        "/// Text.\n#[must_use]\npub fn f() {}\n",
        "    /// Text.\n    pub const fn f() {}\n",
        "/// ```\n/// f();\n/// ```\npub fn f() {}\n",
        "@\npub enum E {}\n",
        "@pub struct S;\npub struct T;\n",
        "@pub fn f() {\n}\n/// Text.\npub fn g() {}\n",
    ] {
        assert!(without_example(&planted.replace('@', example)).is_some(), "{planted}");
    }
    for fine in [
        "@pub struct S;\n",
        "@#[derive(Clone)]\n#[must_use]\npub enum E {}\n",
        "/// Text.\npub(crate) fn f() {}\n",
        "pub const N: usize = 1;\npub use far::F;\n",
        "impl Trait for S {\n    fn f() {}\n}\n",
    ] {
        assert_eq!(without_example(&fine.replace('@', example)), None, "{fine}");
    }
}

// Documents.

/// The lines outside of code fences.
fn prose(content: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    content.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

fn untitled(content: &str) -> Option<String> {
    let titles = prose(content).filter(|line| line.starts_with("# ")).count();
    (titles != 1 || !content.starts_with("# "))
        .then(|| format!("has {titles} titles: begin it with one `# ` line, its only one"))
}

/// The first link of a document in `folder` that leads nowhere.
fn dead_link(content: &str, folder: &Path) -> Option<String> {
    let links =
        prose(content).flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    let mut local = links.filter(|link| !link.contains(':') && !link.starts_with('#'));
    let dead = local.find(|link| !folder.join(link.split('#').next().unwrap_or(link)).exists())?;
    Some(format!("links to {dead}, which does not exist: correct the link, or remove it"))
}

/// What stands between backticks in the prose.
fn quoted(content: &str) -> Vec<&str> {
    prose(content).flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// True when `sources` define a type of that name, by themselves or by a macro and then give it methods.
fn is_type(name: &str, sources: &[Text]) -> bool {
    let heads = ["struct", "enum", "trait", "type", "impl"].map(|keyword| format!("{keyword} {name}"));
    sources.iter().flat_map(|file| file.content.lines()).any(|line| {
        heads.iter().any(|head| {
            line.split_once(head).is_some_and(|(_, rest)| {
                !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_')
            })
        })
    })
}

/// What is wrong with a name that a document quotes; `None` for what is neither a path nor a type.
fn unknown_name(name: &str, sources: &[Text]) -> Option<String> {
    if name.contains(char::is_whitespace) {
        return None;
    }
    let is_file = Path::new(name).extension().is_some_and(|ending| ending == "rs" || ending == "md");
    if is_file || name.contains('/') {
        let known = root().join(name).exists() || sources.iter().any(|file| file.path.ends_with(name));
        return (!known).then(|| format!("there is no file `{name}`"));
    }
    let (type_name, member) = name.split_once("::").unwrap_or((name, ""));
    let is_name = |text: &str| text.chars().all(|character| character.is_ascii_alphanumeric());
    let looks_like_type = type_name.starts_with(|first: char| first.is_ascii_uppercase())
        && type_name.contains(|character: char| character.is_ascii_lowercase())
        && is_name(type_name);
    if !looks_like_type {
        return None;
    }
    if !is_type(type_name, sources) {
        return Some(format!("there is no type `{type_name}`"));
    }
    let is_function = member.starts_with(|first: char| first.is_ascii_lowercase());
    let has_function = || sources.iter().any(|file| file.content.contains(&format!("fn {member}")));
    (is_function && !has_function()).then(|| format!("there is no function `{name}`"))
}

#[test]
fn every_document_has_one_title_and_no_dead_link() {
    let documents = texts(&["."], ".md");
    check_all(&documents, |document| untitled(&document.content));
    check_all(&documents, |document| {
        dead_link(&document.content, &root().join(document.path.parent().unwrap_or(Path::new(""))))
    });
    assert!(untitled("# One\n\n# Two\n").is_some() && untitled("Text\n").is_some());
    assert!(untitled("# One\n\n```\n# a comment\n```\n").is_none());
    assert!(dead_link("See [that](nowhere.md#part).\n", root()).is_some());
}

#[test]
fn the_map_names_only_what_exists() {
    let map = texts(&["ARCHITECTURE.md"], ".md").remove(0);
    assert!(
        map.content.lines().count() < 150,
        "ARCHITECTURE.md is a map: under 150 lines; move details to docs/internals"
    );
    let sources = texts(&["crates", "tests"], ".rs");
    let mut names = quoted(&map.content);
    names.dedup();
    let unknown: Vec<String> = names.iter().filter_map(|name| unknown_name(name, &sources)).collect();
    assert!(unknown.is_empty(), "ARCHITECTURE.md: {}; correct the names, or remove them", unknown.join("; "));

    for planted in ["crates/attic", "attic.rs", "log/attic.rs", "docs/attic.md", "Attic", "Lo", "Log::attic"]
    {
        assert!(unknown_name(planted, &sources).is_some(), "{planted}");
    }
    for fine in [
        "tests",
        "log/mod.rs",
        "Log",
        "Log::sync_to",
        "SIGTERM",
        "cargo test --workspace",
        "Durability::Sync",
    ] {
        assert_eq!(unknown_name(fine, &sources), None);
    }
}

/// The lines of the first Rust example in a document.
fn rust_example(content: &str) -> Vec<&str> {
    content.lines().skip_while(|line| *line != "```rust").skip(1).take_while(|line| *line != "```").collect()
}

/// The names of tests that a text has in backticks: words joined by underscores, at least four.
fn tests_named(content: &str) -> impl Iterator<Item = &str> {
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_test = move |name: &&str| name.split('_').count() > 3 && name.split('_').all(is_word);
    content.split('`').skip(1).step_by(2).filter(is_test)
}

#[test]
fn tests_that_documents_name_exist() {
    let lists = texts(&["docs/internals/seen-red.md", "docs/internals/privacy-proofs.md"], ".md");
    let sources = texts(&["crates", "tests"], ".rs");
    let exists = |name: &str| {
        let head = format!("fn {name}(");
        sources.iter().any(|file| file.content.contains(&head))
    };
    for list in lists {
        assert!(tests_named(&list.content).count() > 50);
        let gone: Vec<&str> = tests_named(&list.content).filter(|name| !exists(name)).collect();
        assert!(
            gone.is_empty(),
            "{} names tests that are not there: {}",
            list.path.display(),
            gone.join(", ")
        );
    }
    assert!(!exists("a_test_that_nobody_wrote"));
}

#[test]
fn the_example_of_the_readme_is_the_one_that_is_compiled() {
    let readme = texts(&["README.md"], ".md").remove(0);
    let crate_page = texts(&["crates/extensions/pugdb/src/lib.rs"], ".rs").remove(0);
    // The compiled one works in a directory of its own.
    let told: Vec<String> =
        rust_example(&readme.content).iter().map(|line| line.replace("\"./data\"", "&path")).collect();
    assert!(told.len() > 8, "README.md has no Rust example");
    let compiled: Vec<&str> = crate_page
        .content
        .lines()
        .skip_while(|line| *line != "//! ```")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| line.trim_start_matches("//!").trim_start())
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(
        told, compiled,
        "the example in README.md is not the one at the top of the crate pugdb: make them equal"
    );
}
