//! Whether a guest's page structures are believed, by what they say of the kernel itself.

use dormouse_guest_mem::{Bytes, PageSet};

use crate::SurveyError;
use crate::facts::Facts;
use crate::ram::Ram;
use crate::sweep::Sweep;

/// Refuses a sweep that contradicts itself or the agent.
///
/// `free` holds the free blocks and the pages that a balloon took.
pub(crate) fn check(
    sweep: &Sweep,
    free: &PageSet,
    facts: &Facts,
    ram: &Ram<'_>,
    mem_free: Option<Bytes>,
) -> Result<(), SurveyError> {
    if sweep.sections == 0 {
        return Err(SurveyError::NoSections);
    }
    if ram.work().struct_pages_read == 0 {
        return Err(SurveyError::NoPageStructs);
    }
    share(&sweep.buddy, facts, ram)?;
    if let Some(reported) = mem_free {
        not_more_than_reported(&sweep.buddy, reported, ram.layout().len())?;
    }
    match ram.own_page_in(free) {
        Some(page) => Err(SurveyError::OwnStructureFree { page }),
        None => Ok(()),
    }
}

/// The page structures alone need their share of RAM, so that much is never free.
fn share(free: &PageSet, facts: &Facts, ram: &Ram<'_>) -> Result<(), SurveyError> {
    let pages = u64::from(ram.layout().pages());
    let structs = Bytes(pages * facts.page.size as u64);
    if free.bytes().0 + structs.0 > ram.layout().len().0 {
        return Err(SurveyError::TooMuchFree { free: free.bytes(), ram: ram.layout().len() });
    }
    Ok(())
}

/// `MemFree` counts exactly the pages on the free lists, but it is read some milliseconds before the stop, in which a
/// process may exit or a file be deleted. 2 % of RAM and at least 16 MiB are granted for that: more than the kernel
/// frees by itself meanwhile, less than a misread array of page structures would be wrong by.
fn not_more_than_reported(free: &PageSet, reported: Bytes, ram: Bytes) -> Result<(), SurveyError> {
    let tolerance = (ram.0 / 50).max(Bytes::mib(16).0);
    if free.bytes().0 > reported.0.saturating_add(tolerance) {
        return Err(SurveyError::MoreFreeThanReported { free: free.bytes(), reported });
    }
    Ok(())
}
