// Command passer passes points as often as its arguments name them, and says so.
package main

import (
	"fmt"
	"os"

	"github.com/estuary-pki/estuary/services/failpoint"
)

func main() {
	for _, name := range os.Args[1:] {
		p := failpoint.Point(name)
		failpoint.Note(failpoint.SignerSigned, "before "+name)
		failpoint.Here(p)
		fmt.Println("passed", name)
	}
}
