//! Texts that the agent reads from /proc, /sys and /etc, where root in a guest can put anything.

#![no_main]

use dormouse_agent_core::testing::read_texts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| read_texts(data));
