// pinned: github.com/prometheus-operator/prometheus-operator
//
// Nothing of it is built: the definitions of its resources lie in its module, and the chart is tested by them.

module modelset.dev/pins/prometheus-operator

go 1.26

require github.com/prometheus-operator/prometheus-operator v0.85.0
