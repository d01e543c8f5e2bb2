package otpd

// Decode is decode, for the fuzz target.
func Decode(octets []byte) (user, password string, err error) {
	p, err := decode(octets)
	if err != nil {
		return "", "", err
	}
	return p.user, string(p.password.Reveal()), nil
}
