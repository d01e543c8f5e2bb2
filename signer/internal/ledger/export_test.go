package ledger

import "strings"

// Columns returns the columns of the table entry that a MAC covers, and mac itself.
func Columns() []string {
	return strings.Fields(strings.ReplaceAll(columns, ",", " "))
}
