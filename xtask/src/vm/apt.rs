//! Kernel images through apt, in separate roots: the machine's own sources, lists and packages stay unchanged.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};

use super::kernels::{Arch, Kernel};
use crate::archives::{Archive, DEBIAN, Mirror};
use crate::cmd;
use crate::skip::Skip;

/// A kernel that QEMU can boot, and the package it came from.
pub(super) struct Image {
    pub(super) path: PathBuf,
    pub(super) package: String,
}

/// The image of a kernel: the one fetched earlier, unless none exists or a refresh is requested. Kernels that differ
/// only in their boot options share an image.
pub(super) fn image(kernel: &Kernel, arch: Arch, refresh: bool) -> Result<Image> {
    let package = kernel.package(arch);
    let place = folder().join("kernels").join(arch.name()).join(kernel.suite).join(&package);
    let (path, note) = (place.join("vmlinuz"), place.join("package"));
    if !refresh && let Ok(package) = fs::read_to_string(&note) {
        return Ok(Image { path, package });
    }
    eprintln!("Fetching kernel {} from {}'s {}", kernel.name, kernel.archive.name, kernel.suite);
    let root = Root::new(kernel.archive, kernel.suite, arch)?;
    let package = root.follow(&package)?;
    fs::create_dir_all(&place)?;
    root.extract(&package, &["*/vmlinuz*"], |found| {
        let image = largest(found)?.with_context(|| format!("no vmlinuz in {package}"))?;
        Ok(fs::rename(image, &path)?)
    })?;
    // Written last: this file marks the image as fetched.
    fs::write(&note, &package)?;
    Ok(Image { path, package })
}

/// The headers and archives of development packages for another processor, in a folder like `/usr`.
pub(super) fn development(packages: &[&str], arch: Arch) -> Result<PathBuf> {
    let place = folder().join("sysroot").join(arch.name());
    unpack(packages, "bookworm", arch, &["./usr/include/*", "*.a"], &place)?;
    Ok(place)
}

/// Unpacks the files of Debian's packages that match the patterns into a folder like `/usr`, unless it is there.
pub(crate) fn unpack(
    packages: &[&str],
    suite: &str,
    arch: Arch,
    patterns: &[&str],
    place: &Path,
) -> Result<()> {
    if place.exists() {
        return Ok(());
    }
    eprintln!("Fetching {} for {} from debian's {suite}", packages.join(" and "), arch.name());
    let root = Root::new(&DEBIAN, suite, arch)?;
    let merged = place.with_extension("part");
    let _ = fs::remove_dir_all(&merged);
    fs::create_dir_all(&merged)?;
    for package in packages {
        root.extract(&root.follow(package)?, patterns, |found| {
            cmd::output(Command::new("cp").arg("-r").arg(found.join("usr/.")).arg(&merged)).map(drop)
        })?;
    }
    Ok(fs::rename(merged, place)?)
}

/// Puts a program of a Debian package into a folder, unless it is there.
pub(crate) fn program(package: &str, suite: &str, folder: &Path) -> Result<()> {
    let place = folder.join(package);
    if place.exists() {
        return Ok(());
    }
    eprintln!("Fetching {package} from debian's {suite}");
    fs::create_dir_all(folder)?;
    Root::new(&DEBIAN, suite, Arch::HOST)?.extract(package, &[&format!("./usr/*bin/{package}")], |found| {
        let program = largest(found)?.with_context(|| format!("no program in {package}"))?;
        Ok(fs::rename(program, &place)?)
    })
}

pub(super) fn folder() -> PathBuf {
    cmd::target_dir().join("vm")
}

/// One suite of one archive for one processor.
struct Root {
    place: PathBuf,
    /// Locked while this exists: several steps may fetch packages at the same time.
    _lock: File,
}

impl Root {
    /// Prepares the root and fetches the suite's signed package list.
    fn new(archive: &Archive, suite: &str, arch: Arch) -> Result<Self> {
        let Some(mirror) = archive.mirror()? else { bail!(Skip(archive.remedy())) };
        let place = folder().join("apt").join(arch.debian()).join(suite);
        for dir in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(place.join(dir))?;
        }
        let lock = File::create(place.join("lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        fs::write(place.join("status"), "")?;
        fs::write(place.join("sources.list"), source(mirror.uri(), &keyring(archive, arch)?, suite))?;
        fs::write(place.join("apt.conf"), config(&place, arch))?;
        let root = Self { place, _lock: lock };
        let remedy = match mirror {
            Mirror::Known(_) => " (offline?)".to_owned(),
            Mirror::Guessed(_) => format!(": {}", archive.remedy()),
        };
        // Without a network, no archive can be reached.
        let why = || Skip(format!("cannot read the list of {} {suite}{remedy}", mirror.uri()));
        cmd::output(root.apt("apt-get").args(["-qq", "--error-on=any", "update"])).with_context(why)?;
        Ok(root)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.place.join("apt.conf")).current_dir(&self.place).stdin(Stdio::null());
        command
    }

    /// The package with the image or the source: the last in a chain of dependencies.
    fn follow(&self, package: &str) -> Result<String> {
        let mut package = package.to_owned();
        for _ in 0..5 {
            let shown = cmd::output(self.apt("apt-cache").args(["show", "--no-all-versions", &package]))?;
            let Some(next) = next_package(&shown) else { return Ok(package) };
            package = next.to_owned();
        }
        bail!("the packages' dependencies lead nowhere; the last is {package}")
    }

    /// Fetches a package, unpacks the files that match the patterns, and passes the folder on; removes both afterwards.
    fn extract<T>(
        &self,
        package: &str,
        patterns: &[&str],
        take: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let place = self.place.join("unpacked");
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place)?;
        cmd::output(self.apt("apt-get").args(["-qq", "download", package]).current_dir(&place))?;
        let deb = largest(&place)?.with_context(|| format!("apt-get download {package} left no file"))?;
        let mut unpack =
            Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&deb).stdout(Stdio::piped()).spawn()?;
        let tar = unpack.stdout.take().context("a pipe was asked for")?;
        cmd::output(
            Command::new("tar").args(["-x", "--wildcards"]).args(patterns).stdin(tar).current_dir(&place),
        )?;
        ensure!(unpack.wait()?.success(), "`dpkg-deb --fsys-tarfile {}` failed", deb.display());
        fs::remove_file(&deb)?;
        let taken = take(&place)?;
        fs::remove_dir_all(&place)?;
        Ok(taken)
    }
}

/// The archive's keyring file: this machine's, or from Debian's package.
fn keyring(archive: &Archive, arch: Arch) -> Result<PathBuf> {
    let here = Path::new(archive.keyring);
    if here.exists() || *archive == DEBIAN {
        return Ok(here.to_owned());
    }
    let name = here.file_name().context("a keyring is a file")?;
    let kept = folder().join(name);
    if !kept.exists() {
        Root::new(&DEBIAN, "trixie", arch)?.extract("ubuntu-keyring", &["*/keyrings/*.gpg"], |found| {
            Ok(fs::rename(found.join("usr/share/keyrings").join(name), &kept)?)
        })?;
    }
    Ok(kept)
}

fn source(uri: &str, keyring: &Path, suite: &str) -> String {
    format!("deb [target=Packages signed-by={}] {uri} {suite} main\n", keyring.display())
}

/// apt reads this after the machine's own configuration, which may set a proxy. Hooks are cleared: they would change
/// the machine's own cache.
fn config(place: &Path, arch: Arch) -> String {
    let (place, arch) = (place.display(), arch.debian());
    format!(
        "#clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n\
         #clear APT::Architectures;\n\
         APT::Architecture \"{arch}\";\n\
         APT::Architectures {{ \"{arch}\"; }};\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Dir::Etc::sourcelist \"{place}/sources.list\";\n\
         Dir::Etc::sourceparts \"-\";\n\
         Dir::State \"{place}\";\n\
         Dir::State::lists \"{place}/lists\";\n\
         Dir::State::status \"{place}/status\";\n\
         Dir::Cache \"{place}/cache\";\n"
    )
}

/// The kernel package that a package depends on, from the output of `apt-cache show`.
fn next_package(shown: &str) -> Option<&str> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let names = depends.split([',', '|']).filter_map(|word| word.split_whitespace().next());
    names.into_iter().find(|name| {
        ["linux-image-", "linux-binary-", "linux-source-"].iter().any(|start| name.starts_with(start))
    })
}

/// The largest file in or below a folder; links are no files.
fn largest(dir: &Path) -> Result<Option<PathBuf>> {
    let about =
        |path: PathBuf| Some((fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?.len(), path));
    Ok(cmd::files(dir)?.into_iter().filter_map(about).max().map(|(_, path)| path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_lead_to_the_image() {
        let sid = "Package: linux-image-cloud-amd64\nVersion: 7.2.13-1\nDepends: linux-base-cloud-amd64 (= 7.2.13-1), \
                   linux-image-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)\n";
        assert_eq!(next_package(sid), Some("linux-image-7.2.13+deb14-cloud-amd64"));
        let image = "Depends: dracut | initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool, \
                     linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), linux-modules-7.2.13+deb14-cloud-amd64\n";
        assert_eq!(next_package(image), Some("linux-binary-7.2.13+deb14-cloud-amd64"));
        let last = "Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool\n\
                    Conflicts: linux-image-6.1.0-50-cloud-amd64-unsigned\n";
        assert_eq!(next_package(last), None);
        assert_eq!(next_package("Package: linux-binary\n"), None);
    }

    #[test]
    fn the_largest_file_is_found() {
        let dir = std::env::temp_dir().join(format!("xtask-largest-{}", std::process::id()));
        fs::create_dir_all(dir.join("deep/er")).unwrap();
        assert_eq!(largest(&dir).unwrap(), None);
        fs::write(dir.join("small"), "1").unwrap();
        fs::write(dir.join("deep/er/large"), "123").unwrap();
        assert_eq!(largest(&dir).unwrap(), Some(dir.join("deep/er/large")));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_root_is_apart() {
        let config = config(Path::new("/r"), Arch::Arm);
        assert!(
            config.contains("APT::Architecture \"arm64\"")
                && config.contains("Dir::State::status \"/r/status\"")
        );
        assert_eq!(
            source("http://host.example/debian", Path::new("/k.gpg"), "sid"),
            "deb [target=Packages signed-by=/k.gpg] http://host.example/debian sid main\n"
        );
    }
}
