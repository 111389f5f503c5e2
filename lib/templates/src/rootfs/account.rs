//! The account `user` in the files passwd(5), group(5) and shadow(5).

/// Its user and group number.
pub(super) const ID: u32 = 1000;
/// Its name.
pub(super) const NAME: &str = "user";

/// The account files of a root filesystem, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts {
    pub(super) passwd: String,
    pub(super) group: String,
    pub(super) shadow: String,
}

impl Accounts {
    /// Adds what is missing for the account: its number, home, shell and a password that never matches. Says what is in
    /// the way when its name or number belongs to somebody else.
    pub(super) fn add_user(&mut self, shell: &str) -> Result<(), String> {
        if self.passwd.is_empty() {
            add(&mut self.passwd, &format!("root:x:0:0:root:/root:{shell}"));
        }
        let number = ID.to_string();
        match (holder(&self.passwd, 0, NAME), holder(&self.passwd, 2, &number)) {
            (None, None) => add(&mut self.passwd, &format!("{NAME}:x:{ID}:{ID}::/home/{NAME}:{shell}")),
            (Some(line), _) if field(line, 2) == number => {}
            (Some(line), _) => return Err(format!("its account `{NAME}` has the number {}, not {ID}", field(line, 2))),
            (None, Some(line)) => {
                return Err(format!("its user number {ID} belongs to `{}`, not `{NAME}`", field(line, 0)));
            }
        }
        if self.group.is_empty() {
            add(&mut self.group, "root:x:0:");
        }
        if holder(&self.group, 0, NAME).is_none() && holder(&self.group, 2, &number).is_none() {
            add(&mut self.group, &format!("{NAME}:x:{ID}:"));
        }
        // Zero days since the last change would ask for a new password; one day asks for nothing.
        for name in ["root", NAME] {
            if holder(&self.shadow, 0, name).is_none() {
                add(&mut self.shadow, &format!("{name}:*:1:0:99999:7:::"));
            }
        }
        Ok(())
    }
}

fn add(text: &mut String, line: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
}

fn field(line: &str, n: usize) -> &str {
    line.split(':').nth(n).unwrap_or_default()
}

fn holder<'a>(text: &'a str, n: usize, value: &str) -> Option<&'a str> {
    text.lines().find(|line| field(line, n) == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_account_is_added_once() {
        let mut accounts = Accounts { passwd: "root:x:0:0::/root:/bin/sh".into(), ..Accounts::default() };
        accounts.add_user("/bin/bash").unwrap();
        assert_eq!(accounts.passwd, "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/bash\n");
        assert!(accounts.group.contains("user:x:1000:\n") && accounts.shadow.contains("user:*:"));
        let once = accounts.clone();
        accounts.add_user("/bin/bash").unwrap();
        assert_eq!(accounts, once);
    }

    #[test]
    fn an_account_in_the_way_is_told() {
        for (line, said) in [("user:x:7:7::/:/bin/sh", "number 7"), ("ubuntu:x:1000:1000::/:/bin/sh", "`ubuntu`")] {
            let mut accounts = Accounts { passwd: line.into(), ..Accounts::default() };
            assert!(accounts.add_user("/bin/sh").unwrap_err().contains(said));
        }
    }
}
