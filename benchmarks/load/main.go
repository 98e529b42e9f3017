// Command load holds both ends of a measurement: `load stub` stands in for Ollama, `load drive` for its clients,
// `load forward` for the least that a proxy can do.
// All keep to loopback addresses, are bounded in count and time, and print JSON on standard output.
package main

import (
	"fmt"
	"os"

	"modelset/benchmarks/load/drive"
	"modelset/benchmarks/load/forward"
	"modelset/benchmarks/load/stub"
)

const usage = `usage:
  load stub [-listen 127.0.0.1:0] [-parallel 0]
  load forward -upstream URL
  load drive unary|embed|streams|hold|cancel|verify [flags]
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "stub":
		err = stub.Main(os.Args[2:])
	case "forward":
		err = forward.Main(os.Args[2:])
	case "drive":
		err = drive.Main(os.Args[2:])
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
