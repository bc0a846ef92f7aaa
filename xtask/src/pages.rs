//! Whether every link between the pages of this repository leads to a file and a heading, every page that a source names exists,
//! every chart is on a page, and every package has the licences.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::{Component, Path, PathBuf};

use crate::cmd;

/// The files of the repository, also those that are not committed yet.
fn files() -> Vec<PathBuf> {
    let list = "git ls-files --cached --others --exclude-standard --deduplicate";
    let list = cmd::output(cmd::line(list).current_dir(cmd::root())).unwrap();
    list.lines().map(PathBuf::from).filter(|file| cmd::root().join(file).is_file()).collect()
}

fn text(file: &Path) -> String {
    read_to_string(cmd::root().join(file)).unwrap_or_default() // of a picture: none
}

fn ends_in(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|found| found == extension)
}

/// What a page shows as text: not its blocks of code.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// The targets of the links in a page.
fn links(page: &str) -> Vec<String> {
    let ends = prose(page);
    let targets = ends.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The anchors of a page's headings, as the usual forges make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let page = prose(page);
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || "_- ".contains(*c);
    let anchor =
        |title: &str| title.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
    headings.map(|heading| anchor(heading.trim_start_matches('#').trim())).collect()
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
        plain
    })
}

/// What is wrong with the links of `page`; the files to which they lead.
fn check(page: &Path, targets: &mut BTreeSet<PathBuf>) -> Vec<String> {
    let text_of_page = text(page);
    let wrong = links(&text_of_page).into_iter().filter(|link| {
        let (file, anchor) =
            link.split_once('#').map_or((&**link, None), |(file, anchor)| (file, Some(anchor)));
        if file.contains(':') {
            return false; // of another host
        }
        let target =
            if file.is_empty() { page.to_owned() } else { plain(&page.parent().unwrap().join(file)) };
        let is_there = cmd::root().join(&target).exists();
        let has_it = anchor.is_none_or(|anchor| anchors(&text(&target)).contains(anchor));
        targets.insert(target);
        !is_there || !has_it
    });
    wrong.map(|link| format!("{}: {link}", page.display())).collect()
}

#[test]
fn links_lead_somewhere_and_charts_are_shown() {
    let files = files();
    let mut targets = BTreeSet::new();
    let pages = files.iter().filter(|file| ends_in(file, "md"));
    let wrong: Vec<_> = pages.flat_map(|page| check(page, &mut targets)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let charts = files.iter().filter(|file| file.starts_with("docs") && ends_in(file, "svg"));
    let unseen: Vec<_> = charts.filter(|chart| !targets.contains(*chart)).collect();
    assert!(unseen.is_empty(), "no page shows {unseen:?}");
}

#[test]
fn sources_name_pages_that_exist() {
    let named = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let mut gone = Vec::new();
    for file in files().iter().filter(|file| !ends_in(file, "md")) {
        for rest in text(file).split("docs/").skip(1) {
            let name = rest.split(|c| !named(c)).next().unwrap().trim_end_matches('.');
            if name.ends_with(".md") && !cmd::root().join("docs").join(name).is_file() {
                gone.push(format!("{}: docs/{name}", file.display()));
            }
        }
    }
    assert!(gone.is_empty(), "{gone:#?}");
}

/// Cargo and maturin package what a link leads to. Go leaves links out of a module.
#[test]
fn packages_have_the_licences() {
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let copies = files().into_iter().filter(|file| file.ends_with(licence)).collect::<Vec<_>>();
        assert!(copies.len() > 1 && copies.iter().all(|copy| text(copy) == text(Path::new(licence))));
        let is_link = |file: &PathBuf| cmd::root().join(file).is_symlink();
        let files: Vec<_> = copies.iter().filter(|copy| !is_link(copy)).collect();
        assert_eq!(files, [Path::new(licence), &Path::new("bindings/go").join(licence)]);
    }
}
