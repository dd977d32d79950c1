module github.com/kvroute/kvroute/go

go 1.24
