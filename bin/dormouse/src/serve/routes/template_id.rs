//! Names of templates as E2B's clients write them.

use dormouse_lifecycle::TemplateName;

use crate::serve::failure::{Answer, Failure};

/// The tag that every build has.
const DEFAULT_TAG: &str = "default";

/// Takes `name` and `name:default`. Namespaces and other tags name no template of this server.
pub(crate) fn parse(text: &str) -> Answer<TemplateName> {
    let name = text.strip_suffix(DEFAULT_TAG).and_then(|rest| rest.strip_suffix(':')).unwrap_or(text);
    name.parse().map_err(|e| Failure::not_found(format!("no such template: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_carry_the_default_tag_and_no_other() {
        assert_eq!(parse("base").unwrap().as_str(), "base");
        assert_eq!(parse("base:default").unwrap().as_str(), "base");
        assert_eq!(parse("default").unwrap().as_str(), "default");
        for unknown in ["base:v2", "team/base", "../base", ""] {
            assert_eq!(parse(unknown).unwrap_err().status, 404, "{unknown}");
        }
    }
}
