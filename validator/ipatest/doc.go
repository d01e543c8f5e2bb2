// Package ipatest turns a few Go structs into an LDAP server for tests that behaves, over the
// wire, as FreeIPA's 389-ds does with its password, OTP, lockout and counter plugins.
//
// Tests of the validator and of the whole system start it. What it does, it does as
// ipa-pwd-extop (prepost.c), libotp (otp_token.c) and ipa-lockout (ipa_lockout.c) do; what
// Estuary never asks of a directory (writing, referrals, paging) it does not have. It speaks
// LDAPS, StartTLS and LDAPI, counts what clients try, and can be made to misbehave.
package ipatest
