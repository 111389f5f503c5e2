//! `/metrics`, in both of its forms.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_agent_core::Durations;

use crate::support::{TestAgent, agent, agent_with, eventually};

/// Every value by its name and labels as written, after the whole text was checked.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    let (mut families, mut current) = (BTreeSet::new(), (String::new(), String::new()));
    let mut helped = None;
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(words.ends_with('.') && families.insert(name.to_owned()), "each family once: {line}");
            helped = Some(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(helped.take().as_deref(), Some(name), "help comes right before the type");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            current = (name.to_owned(), kind.to_owned());
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            assert_eq!(name, current.0, "values follow their head: {line}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{line}");
            let labels = key[name.len()..].trim_start_matches('{').trim_end_matches('}');
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (name, content) = label.split_once('=').unwrap();
                assert!(name.chars().all(|c| c.is_ascii_lowercase()), "{line}");
                assert!(content.len() >= 2 && content.starts_with('"') && content.ends_with('"'), "{line}");
            }
            let value = value.parse::<f64>().unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(value.is_finite() && (current.1 == "gauge" || value >= 0.0), "{line}");
            assert!(values.insert(key.to_owned(), value).is_none(), "each value once: {line}");
        }
    }
    values
}

async fn text(agent: &TestAgent) -> BTreeMap<String, f64> {
    let answer = agent.http("GET /metrics", &["accept: text/plain"], b"").await;
    assert_eq!(answer.status, 200);
    assert!(answer.has("content-type: text/plain; version=0.0.4") && answer.has("cache-control: no-store"));
    parse(&String::from_utf8(answer.body).unwrap())
}

#[tokio::test]
async fn e2bs_figures_are_json_and_make_sense() {
    let agent = agent().await;
    let answer = agent.get("/metrics").await;
    assert!(answer.status == 200 && answer.has("content-type: application/json"));
    let figures = answer.json();
    let number = |name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("{name} in {figures}"));
    assert_eq!(figures.as_object().unwrap().len(), 10, "{figures}");
    assert!(number("ts") > 1.7e9 && number("cpu_count") >= 1.0);
    assert!((0.0..=100.0).contains(&number("cpu_used_pct")));
    for (used, total) in [("mem_used", "mem_total"), ("disk_used", "disk_total"), ("mem_cache", "mem_total")] {
        assert!(number(used) > 0.0 && number(used) <= number(total), "{figures}");
    }
    for name in ["mem_total", "mem_used"] {
        assert_eq!(number(&format!("{name}_mib")), (number(name) / f64::from(1 << 20)).floor());
    }
}

#[tokio::test]
async fn prometheus_gets_text_with_every_family_and_the_machine_in_it() {
    let agent = agent_with(Durations::default(), true).await;
    let first = text(&agent).await;
    let total = first["dormouse_memory_total_bytes"];
    for class in ["free", "cache", "dirty", "anon", "slab"] {
        let bytes = first[&format!("dormouse_memory_bytes{{class=\"{class}\"}}")];
        assert!((0.0..total).contains(&bytes), "{class}: {bytes} of {total}");
    }
    for name in [
        "dormouse_cpus",
        "dormouse_cpu_seconds_total{mode=\"user\"}",
        "dormouse_disk_size_bytes",
        "dormouse_ports{scope=\"loopback\"}",
        "dormouse_reclaim_steps_total",
        "dormouse_reclaim_benefit_bytes",
        "dormouse_reclaim_cpu_seconds_total",
        "process_resident_memory_bytes",
    ] {
        assert!(first.contains_key(name), "{name}");
    }
    if std::path::Path::new("/proc/pressure/memory").exists() {
        assert!(first.contains_key("dormouse_pressure_stalled_seconds_total{resource=\"memory\",kind=\"full\"}"));
    }
    agent.sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").await;
    let second = text(&agent).await;
    for (name, value) in first.iter().filter(|(name, _)| name.contains("_total") && !name.contains("memory_total")) {
        assert!(second[name] >= *value, "{name} went back");
    }
}

#[tokio::test]
async fn preparations_are_counted_and_the_last_one_is_told_step_by_step() {
    let agent = agent_with(Durations::default(), true).await;
    assert!(!text(&agent).await.keys().any(|name| name.contains("prepare")), "there was none");
    assert_eq!(agent.post("/snapshot/prepare", r#"{"freeze":true}"#).await.status, 204);
    assert_eq!(agent.post("/snapshot/prepare", "").await.status, 409);
    let prepared = text(&agent).await;
    assert_eq!(prepared["dormouse_prepares_total{outcome=\"prepared\"}"], 1.0);
    assert_eq!(prepared["dormouse_prepares_total{outcome=\"busy\"}"], 1.0);
    assert_eq!(prepared["dormouse_prepare_steps_total{step=\"freeze\",outcome=\"ok\"}"], 1.0);
    assert!(prepared["dormouse_prepare_seconds"] >= prepared["dormouse_prepare_step_seconds{step=\"freeze\"}"]);
    assert!(prepared.contains_key("dormouse_prepare_step_bytes{step=\"sync\"}"));
    assert_eq!(agent.post("/init", r#"{"generation":7}"#).await.status, 204);
    assert_eq!(text(&agent).await["dormouse_generation"], 7.0);
}

#[tokio::test]
async fn reclaiming_shows_with_what_it_cost_and_brought() {
    let durations = Durations {
        reclaim_look: std::time::Duration::from_millis(5),
        reclaim_calm: std::time::Duration::from_millis(20),
        ..Durations::default()
    };
    let agent = agent_with(durations, true).await;
    agent.kernel.set_cold_files(1 << 40);
    let freed = "dormouse_reclaim_freed_bytes_total{kind=\"files\"}";
    eventually("a step is counted", async || text(&agent).await[freed] > 0.0).await;
    let figures = text(&agent).await;
    assert!(figures["dormouse_reclaim_steps_total"] >= 1.0 && figures["dormouse_reclaim_cpu_seconds_total"] > 0.0);
    assert_eq!(figures["dormouse_reclaim_enabled"], 1.0);
    assert_eq!(agent.post("/init", r#"{"reclaim":false}"#).await.status, 204);
    assert_eq!(text(&agent).await["dormouse_reclaim_enabled"], 0.0);
}

#[tokio::test]
async fn figures_need_the_token_and_are_there_while_prepared() {
    let agent = agent().await;
    assert_eq!(agent.post("/init", r#"{"accessToken":"tok"}"#).await.status, 204);
    for accept in ["accept: text/plain", "accept: application/json"] {
        assert_eq!(agent.http("GET /metrics", &[accept], b"").await.status, 401);
        assert_eq!(agent.http("GET /metrics", &[accept, "x-access-token: tok"], b"").await.status, 200);
    }
    assert_eq!(agent.http("POST /snapshot/prepare", &["x-access-token: tok"], b"").await.status, 204);
    assert_eq!(agent.http("GET /metrics", &["x-access-token: tok"], b"").await.status, 200);
}
