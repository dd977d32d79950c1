module github.com/kvroute/kvroute/examples/go

go 1.24

require github.com/kvroute/kvroute/go v0.0.0

replace github.com/kvroute/kvroute/go => ../../go
