//! Which cgroups there are: both the sources that read their files and the attribution that names them ask here.
