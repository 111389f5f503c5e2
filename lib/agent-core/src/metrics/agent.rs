//! Figures of what the agent does: ports, reclaiming, snapshots.

use super::text::{Kind, Text};
use crate::agent::Agent;

pub(super) fn write(text: &mut Text, agent: &Agent) {
    ports(text, agent);
    reclaim(text, agent);
    prepare(text, agent);
}

fn ports(text: &mut Text, agent: &Agent) {
    let counts = agent.ports.counts();
    let mut family = text.family("dormouse_ports", Kind::Gauge, "TCP ports that have a server, by where it listens.");
    for (scope, count) in counts.by_scope {
        family.value(&[("scope", scope)], count);
    }
    let help = "Of these, ports of the loopback that are forwarded.";
    text.one("dormouse_ports_forwarded", Kind::Gauge, help, counts.forwarded);
}

fn reclaim(text: &mut Text, agent: &Agent) {
    if agent.guest.is_none() {
        return;
    }
    let figures = agent.reclaimer.figures();
    let enabled = u8::from(agent.reclaimer.is_enabled());
    text.one("dormouse_reclaim_enabled", Kind::Gauge, "Whether memory of the idle guest is given back.", enabled);
    text.one("dormouse_reclaim_steps_total", Kind::Counter, "Steps of the reclaimer.", figures.steps);
    let help = "Looks and steps that failed or hung.";
    text.one("dormouse_reclaim_failures_total", Kind::Counter, help, figures.failures);
    let mut family = text.family("dormouse_reclaim_freed_bytes_total", Kind::Counter, "Memory that steps freed.");
    family.value(&[("kind", "files")], figures.files);
    family.value(&[("kind", "names")], figures.names);
    let help = "Files read again after they were evicted, by whomever, since the first step.";
    text.one("dormouse_reclaim_refaulted_bytes_total", Kind::Counter, help, figures.refaulted);
    let help = "Freed and not wanted back: freed less refaulted.";
    text.one("dormouse_reclaim_benefit_bytes", Kind::Gauge, help, figures.benefit());
    let help = "CPU time of all steps.";
    text.one("dormouse_reclaim_cpu_seconds_total", Kind::Counter, help, figures.cpu.as_secs_f64());
}

fn prepare(text: &mut Text, agent: &Agent) {
    let help = "Number of the life that the guest is in.";
    text.one("dormouse_generation", Kind::Gauge, help, agent.snapshot.generation());
    let record = agent.snapshot.record();
    let help = "Preparations for a snapshot, by how they ended.";
    let mut family = text.family("dormouse_prepares_total", Kind::Counter, help);
    for (outcome, count) in record.outcomes() {
        family.value(&[("outcome", outcome)], count);
    }
    let help = "Steps of all preparations, by how they ended.";
    let mut family = text.family("dormouse_prepare_steps_total", Kind::Counter, help);
    for ((step, outcome), count) in record.steps() {
        family.value(&[("step", step), ("outcome", outcome)], count);
    }
    if let Some(last) = record.last() {
        let help = "How long the last complete preparation took.";
        text.one("dormouse_prepare_seconds", Kind::Gauge, help, last.took.as_secs_f64());
        let mut family = text.family("dormouse_prepare_step_seconds", Kind::Gauge, "How long each of its steps took.");
        for step in &last.steps {
            family.value(&[("step", &step.name)], std::time::Duration::from_millis(step.ms).as_secs_f64());
        }
        let help = "What each of its steps freed, wrote or trimmed.";
        let mut family = text.family("dormouse_prepare_step_bytes", Kind::Gauge, help);
        for step in &last.steps {
            family.value(&[("step", &step.name)], step.bytes);
        }
    }
}
