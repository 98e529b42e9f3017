module modelset/benchmarks/load

go 1.26
