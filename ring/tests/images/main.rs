//! The golden images of `proofs/images`: regions as bytes, with what a reader finds in them beside each. Readers in all languages
//! read the same files, without BPF and without privilege. `MAPRING_BLESS=1` writes them anew.

mod make;
mod malformed;
mod read;
mod rings;
mod seen;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use self::make::Image;
use self::seen::Seen;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../proofs/images")
}

/// All images, by name. The files are written anew before any test reads them, if that is asked for.
static IMAGES: LazyLock<BTreeMap<String, (Image, Seen)>> = LazyLock::new(|| {
    let (images, folder) = (images(), folder());
    if std::env::var_os("MAPRING_BLESS").is_some_and(|bless| bless == "1") {
        for name in ["bin", "json"]
            .iter()
            .flat_map(|it| there(it).into_iter().map(move |name| format!("{name}.{it}")))
        {
            fs::remove_file(folder.join(name)).unwrap();
        }
        for (name, (image, seen)) in &images {
            fs::write(folder.join(format!("{name}.bin")), image.bytes()).unwrap();
            fs::write(folder.join(format!("{name}.json")), seen.to_string()).unwrap();
        }
    }
    images
});

fn images() -> BTreeMap<String, (Image, Seen)> {
    let all = [rings::images(), values::images(), malformed::images()].concat();
    let count = all.len();
    let images: BTreeMap<_, _> = all.into_iter().map(|(name, image, seen)| (name, (image, seen))).collect();
    assert_eq!(images.len(), count, "two images have one name");
    images
}

/// The names of the files there, without the part after the dot.
fn there(extension: &str) -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|it| it == extension));
    let mut names: Vec<_> =
        files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_files_are_what_is_generated() {
    let (images, folder) = (&*IMAGES, folder());
    let names: Vec<_> = images.keys().cloned().collect();
    assert_eq!([there("bin"), there("json")], [names.clone(), names]);
    for (name, (image, seen)) in images {
        let file = |extension| fs::read(folder.join(format!("{name}.{extension}"))).unwrap();
        assert!(file("bin") == image.bytes(), "{name}.bin: MAPRING_BLESS=1 writes it anew");
        assert_eq!(String::from_utf8(file("json")).unwrap(), seen.to_string(), "{name}.json");
    }
    let bytes: usize = images.values().map(|(image, _)| image.bytes().len()).sum();
    println!("{} images of {bytes} bytes", images.len());
    assert!(bytes < 1 << 20, "{bytes} bytes");
}

#[test]
fn each_image_reads_as_the_file_beside_it_says() {
    LazyLock::force(&IMAGES);
    for name in there("bin") {
        let file = |extension| fs::read(folder().join(format!("{name}.{extension}"))).unwrap();
        let expected = String::from_utf8(file("json")).unwrap();
        assert_eq!(read::read(&file("bin"), &expected).to_string(), expected, "{name}");
    }
}
