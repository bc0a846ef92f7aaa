//! Starts the recording: chooses sizes, loads, pins and attaches the programs.

use std::time::Duration;

use anyhow::Result;
use mapring_kit::output;

use crate::rings::{GROUPS, Group};
use crate::triggers::{self, Trigger};

/// Options of `mapring flight start`.
#[derive(clap::Args)]
#[command(after_help = triggers::help())]
pub(crate) struct Args {
    /// The groups of events to record; `default` stands for those of the default. The others record stacks: profile (samples of each CPU), waits (of threads off their CPU), locks (of the kernel)
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = group, default_value = DEFAULT)]
    events: Vec<&'static str>,
    /// The memory of all rings together, split over groups and CPUs
    #[arg(long, value_parser = output::size, default_value = "64M")]
    size: u64,
    /// How many samples `profile` takes of each CPU in a second: 1 to 10000, and at most what the kernel allows (kernel.perf_event_max_sample_rate) [default: 99]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    hz: Option<u32>,
    /// Only waits of this time and longer are recorded by `waits` [default: 1ms]
    #[arg(long, value_name = "TIME", value_parser = stack_time)]
    waits: Option<Duration>,
    /// Only waits for locks of this time and longer are recorded by `locks` [default: 100us]
    #[arg(long, value_name = "TIME", value_parser = stack_time)]
    locks: Option<Duration>,
    /// Let the members of this group of users (a name or a number) read the recording. Only the kernel's programs can write it
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Stop recording when this happens: oom, 'exit signal=SIGSEGV comm=postgres', 'runqueue > 50ms'. More than once: the first
    /// counts
    #[arg(long, value_name = "TRIGGER", value_parser = triggers::parse)]
    stop_on: Vec<Trigger>,
    /// How long recording goes on after a trigger
    #[arg(long, value_name = "TIME", value_parser = output::span, default_value = "5s", requires = "stop_on")]
    after: Duration,
}

/// The groups that are recorded by default, and the name for all of them.
const DEFAULT: &str = "sched,irq,syscalls,exec,block,net,faults";
const THESE: &str = "default";

fn group(name: &str) -> Result<&'static str, String> {
    let known = || GROUPS.iter().map(|group| group.name).chain([THESE]);
    let all = || known().collect::<Vec<_>>().join(",");
    known().find(|known| *known == name).ok_or_else(|| format!("the groups are {}", all()))
}

/// Programs measure times of 19 hours.
fn stack_time(text: &str) -> Result<Duration, String> {
    let time = output::span(text)?;
    if time <= Duration::from_secs(8 * 60 * 60) { Ok(time) } else { Err("the longest is 8h".to_owned()) }
}

impl Args {
    fn records(&self, group: &Group) -> bool {
        let these = self.events.contains(&THESE) && DEFAULT.split(',').any(|name| name == group.name);
        these || self.events.contains(&group.name)
    }

    /// The groups that are asked for, each once.
    fn groups(&self) -> Vec<&'static Group> {
        GROUPS.iter().filter(|group| self.records(group)).collect()
    }

    /// An option that says how a group is recorded which is not, and that group.
    fn without_group(&self) -> Option<(&'static str, &'static str)> {
        let given = [
            ("--hz", "profile", self.hz.is_some()),
            ("--waits", "waits", self.waits.is_some()),
            ("--locks", "locks", self.locks.is_some()),
        ];
        let idle = given.into_iter().find(|(_, group, is_given)| *is_given && !self.events.contains(group));
        idle.map(|(option, group, _)| (option, group))
    }
}

/// Starts the recording.
///
/// # Errors
/// If something is recorded already; if the kernel, the user or the memory do not allow it.
#[cfg(not(feature = "bpf"))]
pub(crate) fn run(_: &std::path::Path, args: &Args) -> Result<()> {
    let _ = (args.groups(), args.size, args.without_group(), &args.group, &args.stop_on, args.after);
    anyhow::bail!(mapring_kit::exit::Refused(
        "this mapring was built without BPF programs: sudo apt-get install clang libelf-dev zlib1g-dev pkg-config && \
         cargo install --path cli --features bpf"
            .to_owned()
    ))
}

#[cfg(feature = "bpf")]
pub(crate) use with_programs::run;

#[cfg(feature = "bpf")]
mod with_programs {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::time::Duration;

    use anyhow::{Context, Result, bail};
    use mapring::loader::PinOptions;
    use mapring_kit::exit::{Refused, WrongUsage};
    use mapring_kit::output::{bytes, note};
    use mapring_sys::PinDir;

    use super::{Args, THESE, triggers};
    use crate::load::{self, Kernel, Loaded, Stacks, Wanted};
    use crate::pins::{self, Lock};
    use crate::plan::{self, Planned};
    use crate::recording::Recording;
    use crate::rings::{GROUPS, MARKS};
    use crate::{clocks, cost, limits, memory, present, rings, sampling};

    /// The group that takes samples.
    const PROFILE: &str = "profile";

    /// The first Linux that lets processes without privilege open pins, while they may not load programs.
    const OPENS_PINS: (u32, u32) = (5, 19);

    /// Starts the recording.
    ///
    /// # Errors
    /// If something is recorded already; if the kernel, the user or the memory do not allow it.
    pub(crate) fn run(dir: &Path, args: &Args) -> Result<()> {
        let readers = match args.group.as_deref() {
            Some(name) => Some((mapring_kit::lookup::group(name)?, name)),
            None => None,
        };
        if args.stop_on.len() > triggers::MOST {
            bail!(WrongUsage(format!("at most {} triggers can be armed", triggers::MOST).into()));
        }
        if let Some((option, group)) = args.without_group() {
            let add = format!("add it with --events {THESE},{group}");
            bail!(WrongUsage(
                format!("{option} is for the group {group}, which is not recorded: {add}").into()
            ));
        }
        let cpus = mapring::cpus::possible_cpus()?.last().map_or(1, |last| last + 1);
        let mut groups = args.groups();
        if groups.iter().any(|group| group.name == PROFILE)
            && let Some(why) = sampling::too_often(args.hz())
        {
            groups.retain(|group| group.name != PROFILE);
            if groups.is_empty() {
                bail!(Refused(why));
            }
            eprintln!("mapring: group {PROFILE} is not recorded: {why}");
        }
        let planned = plan::split(args.size, &groups, cpus, load::log2_slots)?;
        check_memory(args.size)?;
        limits::check_cgroups(planned.iter().map(|ring| ring.bytes).sum())?;
        limits::allow_descriptors(planned.len() + args.watched().count() + 1)?;
        let kernel = Kernel::new()?;
        args.stop_on.iter().try_for_each(|trigger| kernel.check(trigger))?;

        let lock = Lock::take(dir)?;
        if let Some(running) = running(dir) {
            bail!("{running} is recording already: end it first with `mapring flight stop`");
        }
        match record(&lock, &kernel, &planned, args, readers) {
            Ok(text) => note(text),
            Err(error) => {
                let _ = lock.clear(); // the first error is the one that matters
                return Err(error);
            }
        }
        Ok(())
    }

    /// Returns a text for the user.
    fn record(
        lock: &Lock,
        kernel: &Kernel,
        planned: &[Planned],
        args: &Args,
        readers: Option<(u32, &str)>,
    ) -> Result<String> {
        if let Some((group, name)) = readers {
            check_way(lock.path(), group, name)?;
            if load::release() < OPENS_PINS {
                eprintln!(
                    "mapring: before Linux 5.19 members of {name} also need CAP_BPF to read the recording"
                );
            }
        }
        let smallest = *load::log2_slots(&MARKS).start();
        let hz = planned.iter().any(|ring| ring.group.name == PROFILE).then_some(args.hz());
        let wanted = |group, log2, is_recorded| Wanted {
            group,
            log2,
            is_recorded,
            triggers: &args.stop_on,
            after: args.after,
            stacks: Stacks {
                hz,
                waits: args.waits.unwrap_or(Duration::from_millis(1)),
                locks: args.locks.unwrap_or(Duration::from_micros(100)),
            },
        };
        let marks = kernel.load(&wanted(&MARKS, smallest, true), None)?;
        let (mut recorded, mut missing) = (Vec::new(), Vec::new());
        for ring in planned {
            let group = kernel.load(&wanted(ring.group, ring.log2, true), Some(&marks))?;
            let name = ring.group.name;
            if group.programs() == 0 {
                missing.push(load::nothing_of(ring.group));
                continue;
            }
            if ring.group.has_stacks
                && load::release() < load::LONG_VALUES
                && ring.log2 == *load::log2_slots(ring.group).end()
            {
                let most = bytes(ring.bytes);
                eprintln!("mapring: group {name} gets {most}: before Linux 6.0 its ring can't be larger");
            }
            for tracepoint in &group.lacking {
                eprintln!("mapring: this kernel has no event {tracepoint}; group {name} lacks it");
            }
            recorded.push((group, ring));
        }
        if recorded.is_empty() {
            bail!(Refused(missing.join("\n")));
        }
        missing.iter().for_each(|why| eprintln!("mapring: {why}"));
        let memory = recorded.iter().map(|(_, ring)| ring.bytes).sum();
        let names: Vec<_> = recorded.iter().map(|(_, ring)| ring.group.name).collect();
        let mut loaded = vec![marks];
        loaded.extend(recorded.into_iter().map(|(group, _)| group));
        for group in args.watched() {
            let group = kernel.load(&wanted(group, smallest, false), loaded.first())?;
            loaded.push(group);
        }
        let new = lock.begin()?;
        let before = cost::Before::measure();
        let group = readers.map(|(group, _)| group);
        present::keep(&new, group).context("the names of those that are present")?;
        fill(&new, &loaded, group)?;
        Lock::keep_texts(&new, hz, &clocks::text(), &args.triggers())?;
        lock.finish()?;
        let measured = before.and_then(|before| match before.compare(lock.path())? {
            Some(ns) => lock.keep_cost(ns),
            None => Ok(()),
        });
        if let Err(error) = measured {
            eprintln!(
                "mapring: what an event costs was not measured: {}",
                mapring_kit::text::one_line(&error)
            );
        }
        Ok(format!(
            "Recording {} in {} of memory.\n\
             `mapring flight status` shows the recording. `mapring flight stop` ends it.",
            names.join(", "),
            bytes(memory)
        ))
    }

    impl Args {
        fn hz(&self) -> u32 {
            self.hz.unwrap_or(99)
        }

        /// Groups that are not recorded, and whose programs find triggers.
        fn watched(&self) -> impl Iterator<Item = &'static rings::Group> {
            let finds = |group: &rings::Group| {
                let of_group = |program: &&str| program.split('_').next() == Some(group.name);
                self.stop_on.iter().any(|trigger| trigger.kind.programs.iter().any(of_group))
            };
            GROUPS.iter().filter(move |group| !self.records(group) && finds(group))
        }

        /// What `status` shows of the triggers.
        fn triggers(&self) -> String {
            let lines = self.stop_on.iter().map(|trigger| format!("\n{trigger}"));
            format!("{}{}", self.after.as_nanos(), lines.collect::<String>())
        }
    }

    /// Pins and attaches everything below `new`.
    fn fill(new: &PinDir, loaded: &[Loaded], readers: Option<u32>) -> Result<()> {
        let (maps, links) = (new.dir(pins::MAPS)?, new.dir(pins::LINKS)?);
        let options = readers.map_or(PinOptions::new(0o600), |group| PinOptions::new(0o660).group(group));
        loaded.iter().try_for_each(|group| group.pin_maps(maps.path(), options))?;
        if let [marks, ..] = loaded {
            marks.pin_bell(new, readers)?;
        }
        loaded.iter().try_for_each(|group| group.attach(new, &links))?;
        for dir in [new, &maps] {
            if readers.is_some() {
                dir.set_access(readers, 0o750).with_context(|| dir.path().display().to_string())?;
            }
        }
        Ok(())
    }

    /// The running recorder, in words.
    fn running(dir: &Path) -> Option<String> {
        let recording = pins::recording(dir);
        recording.symlink_metadata().ok()?;
        let loader = Recording::open(dir)
            .and_then(|it| rings::open(&it))
            .ok()
            .and_then(|rings| rings.first().and_then(rings::GroupRings::loader));
        let by = loader.map_or(String::new(), |loader| format!(", which process {} started,", loader.pid));
        Some(format!("the recorder at {}{by}", dir.display()))
    }

    /// Refuses memory that would leave too little for others.
    fn check_memory(size: u64) -> Result<()> {
        let free = memory::available().context("/proc/meminfo has no MemAvailable")?;
        if size > free / 2 {
            bail!(
                "--size {} is too large: this machine has {} of memory available, and a recording may take half of it",
                bytes(size),
                bytes(free)
            );
        }
        Ok(())
    }

    /// Checks that members of the group can pass through the directories above the pins.
    fn check_way(dir: &Path, group: u32, name: &str) -> Result<()> {
        let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
        for above in dir.ancestors() {
            let found = above.metadata().with_context(|| above.display().to_string())?;
            let passes = found.mode() & 0o001 != 0 || (found.gid() == group && found.mode() & 0o010 != 0);
            if !passes {
                bail!(Refused(format!(
                    "members of {name} can't pass through {0}: chmod o+x {0}",
                    above.display()
                )));
            }
        }
        Ok(())
    }
}
