//! The state of the recorder for people.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use mapring_kit::output;

use crate::sum;

use super::{Loader, Recording, Trigger};

/// A time span for people: with a digit after the point, if it is short.
fn span(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1}s");
    }
    humantime::format_duration(Duration::from_secs(Duration::from_secs_f64(seconds).as_secs())).to_string()
}

impl Recording {
    pub(super) fn text(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["group", "events/s", "ns/event", "memory", "records", "history", "lost"]);
        for group in &self.groups {
            let lost = sum(group.lost.values().copied());
            let all = if group.since_start { " (all)" } else { "" };
            table.add_row([
                group.group.to_owned(),
                format!("{:.0}", group.events_per_second),
                group.ns_per_event.map_or("-".to_owned(), |ns| format!("{ns:.0}")),
                output::bytes(group.memory),
                group.records.to_string(),
                format!("{}{all}", span(group.history_seconds)),
                lost.to_string(),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let ago = span(self.seconds);
        let since = self.since.as_deref().unwrap_or("an unknown time");
        let mut text = match &self.saved {
            None => format!("Recording since {since} ({ago})"),
            Some(saved) => format!("{saved}\nRecorded since {since} ({ago})"),
        };
        if let Some(Loader { pid, alive }) = self.loader {
            text += &format!(", started by process {pid}{}", if alive { "" } else { " (ended)" });
        }
        text += &format!("\n{} of memory", output::bytes(self.memory));
        match (self.cpu_percent, &self.costs_unknown) {
            (Some(percent), _) => text += &format!(", {percent:.2} % of a CPU\n"),
            (None, why) => text += &format!("; costs unknown: {}\n", why.as_deref().unwrap_or_default()),
        }
        if let Some(ns) = self.measured_ns_per_event {
            let armed = if self.triggers.is_empty() { "" } else { " with its triggers armed" };
            text += &format!(
                "An event cost {ns:.0} ns when the recording started{armed}, as two threads measured\n"
            );
        }
        if let Some(cpus) = self.not_sampled.as_ref().filter(|cpus| !cpus.is_empty()) {
            let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
            text += &format!(
                "CPU {} was offline and is not sampled: `mapring flight resume` samples it again\n",
                cpus.join(", ")
            );
        }
        if let Some(stopped) = &self.stopped {
            let (verb, goes) =
                if stopped.recording { ("stopping", "recording") } else { ("stopped", "recorded") };
            let of = stopped.history_of.unwrap_or("no group");
            text += &format!(
                "{verb} by {};\n{goes} {:.1} s more; {:.1} s of history are kept, of {of}\n",
                stopped.by, stopped.after_seconds, stopped.history_seconds
            );
        }
        for Trigger { trigger, met, ns_per_event } in &self.triggers {
            let cost = ns_per_event
                .map_or(String::new(), |ns| format!("; its programs take {ns:.0} ns for each event"));
            let times = if *met == 1 { "once".to_owned() } else { format!("{met} times") };
            text += &format!("stops on {trigger}: met {times}{cost}\n");
        }
        text += table.trim_fmt().as_str();
        for group in &self.groups {
            for (cause, count) in &group.lost {
                text += &format!("\n{}: {count} lost: {cause}", group.group);
            }
            if group.cut_stacks > 0 {
                text += &format!(
                    "\n{}: {} stacks have more frames than a record holds: outer ones are missing",
                    group.group, group.cut_stacks
                );
            }
            group.not_ended.iter().for_each(|line| text.extend(["\n", line]));
            if group.programs.as_ref().is_some_and(Vec::is_empty) {
                text += &format!("\n{}: no program is attached any more: stop, and start again", group.group);
            }
        }
        text
    }
}
