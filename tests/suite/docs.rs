//! Generated pages are current, and links within the documentation lead somewhere.

use xlac_tests::root;

#[test]
fn the_page_of_operators_is_current() {
    let path = root().join("docs/operators.md");
    let current = xlac::commands::operators_markdown();
    if std::env::var_os("XLAC_UPDATE").is_some() {
        std::fs::write(&path, &current).expect("docs/ is writable");
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == current, "docs/operators.md is out of date: run `cargo run -p xlac -- ops --markdown > docs/operators.md`");
}

#[test]
fn links_lead_somewhere() {
    let mut pages = vec![root().join("README.md")];
    for dir in ["docs", "docs/decisions"] {
        let entries = std::fs::read_dir(root().join(dir)).into_iter().flatten().flatten();
        pages.extend(entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "md")));
    }
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap_or_default();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or("");
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let full = page.parent().map(|p| p.join(target)).unwrap_or_default();
            assert!(full.exists(), "{}: the link to {target} leads nowhere", page.display());
        }
    }
}
