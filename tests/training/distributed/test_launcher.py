"""Who a process is, from the environments that torchrun, the old launcher, Slurm and mpirun make."""

import os

import pytest

from training.distributed.launcher import ALONE, FIRST_PORT, Ranks, first_host, rank_word, ranks, rendezvous_url
from training.errors import ConfigError

TORCHRUN = {"RANK": "11", "LOCAL_RANK": "3", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}
TORCHRUN |= {"MASTER_ADDR": "node-a", "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "2"}
JOB = {"SLURM_JOB_ID": "987654321", "SLURM_JOB_NODELIST": "gpu[07-08]", "SLURM_NTASKS": "16", "SLURM_NNODES": "2"}
BATCH = JOB | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}  # what a batch script sees around its srun
STEP = JOB | {"SLURM_STEP_NUM_TASKS": "16", "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_STEP_TASKS_PER_NODE": "8(x2)"}
STEP |= {"SLURM_PROCID": "11", "SLURM_LOCALID": "3"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
OPEN_MPI |= {"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "PMIX_RANK": "1", "PMIX_NAMESPACE": "2815950849"}
HYDRA = {"PMI_RANK": "3", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
HELPER = STEP | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}  # srun starts it for mpirun


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Sets exactly these variables of a launcher."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_", "OMPI_", "PMI", "MPI_", "MV2_")) or name in TORCHRUN:
            monkeypatch.delenv(name)

    def change(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return change


def test_without_a_launcher_a_process_is_alone():
    assert ranks() == ALONE == Ranks(rank=0, local_rank=0, world_size=1, local_world_size=1, restarts=0)


def test_torchrun(environment):
    environment(TORCHRUN)
    assert ranks() == Ranks(11, 3, 16, 8, 2) and rendezvous_url("") == "env://"


def test_the_old_launcher_sets_no_local_world_size(environment):
    """torch 1.x; today's is torchrun under another name."""
    environment({name: TORCHRUN[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")})
    assert ranks() == Ranks(11, 3, 16, 1, 0)


def test_srun(environment):
    environment(STEP)
    assert ranks() == Ranks(11, 3, 16, 8, 0)
    assert rendezvous_url("") == rendezvous_url("env://") == f"tcp://gpu07:{FIRST_PORT + 987654321 % 12_000}"


def test_mpirun_of_open_mpi(environment):
    environment(OPEN_MPI)
    assert ranks() == Ranks(1, 1, 2, 2, 0)
    urls = {rendezvous_url("")}
    environment({"PMIX_NAMESPACE": "2815950850"})  # of another mpirun
    urls.add(rendezvous_url(""))
    ports = {int(url.removeprefix("tcp://127.0.0.1:")) for url in urls}
    assert len(ports) == 2 and all(FIRST_PORT <= port < 32768 for port in ports)
    assert rendezvous_url("tcp://node-a:1234") == "tcp://node-a:1234"


def test_mpiexec_of_mpich_on_one_machine(environment):
    environment(HYDRA | {"PMI_SIZE": "4", "MPI_LOCALNRANKS": "4", "MPI_LOCALRANKID": "3"})
    assert ranks() == Ranks(3, 3, 4, 4, 0)
    assert rendezvous_url("").startswith("tcp://127.0.0.1:") and rendezvous_url("") == rendezvous_url("env://")


def test_mpirun_rsh_of_mvapich(environment):
    environment({"MV2_COMM_WORLD_RANK": "2", "MV2_COMM_WORLD_LOCAL_RANK": "0"})
    environment({"MV2_COMM_WORLD_SIZE": "4", "MV2_COMM_WORLD_LOCAL_SIZE": "2"})
    assert ranks() == Ranks(2, 0, 4, 2, 0)


@pytest.mark.parametrize("variables", [HYDRA, OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "4"}])
def test_mpirun_on_two_machines_needs_an_address(environment, variables):
    environment(variables)
    assert ranks().world_size == 4
    with pytest.raises(ConfigError, match=r"--dist-url tcp://HOST:PORT.*torchrun"):
        rendezvous_url("")
    environment({"MASTER_ADDR": "node-a"})
    assert rendezvous_url("") == "env://"


@pytest.mark.parametrize(("variables", "expected"), [(OPEN_MPI, Ranks(1, 1, 2, 2)), (HYDRA, Ranks(3, 1, 4, 2))])
def test_mpirun_inside_slurm_wins(environment, variables, expected):
    """srun starts a helper of mpirun on each machine, whose variables the ranks inherit: two helpers, four ranks."""
    environment(HELPER | variables)
    assert ranks() == expected and rank_word() == str(expected.rank)


def test_srun_with_mpi_set_up_by_pmi_or_pmix(environment):
    """Slurm's own numbers tell more."""
    environment(STEP | {"PMI_RANK": "11", "PMI_SIZE": "16", "PMIX_RANK": "11"})
    assert ranks() == Ranks(11, 3, 16, 8, 0)


def test_one_process_of_srun_mpirun_or_mpiexec_is_alone(environment):
    """Clusters may set PMIx up for every step."""
    for one in (STEP | {"SLURM_STEP_NUM_TASKS": "1"}, OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, {"PMI_SIZE": "1"}):
        environment(one | {"PMIX_RANK": "0"})
        assert ranks() == ALONE


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"PMIX_RANK": "0"}, "PMIX_RANK='0'"),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, "PMI_SIZE='2'"),  # HPE's PALS, Flux
    ],
)
def test_a_launcher_that_does_not_tell_enough_is_refused(environment, variables, name):
    environment(variables)
    with pytest.raises(ConfigError, match=f"^environment variable {name}.*Start with torchrun"):
        ranks()


def test_a_world_size_without_a_rank(environment):
    """Every process took itself for number 0, and waited. A dry run needs no rank."""
    environment({"WORLD_SIZE": "2", "MASTER_ADDR": "node-a", "MASTER_PORT": "29500"})
    assert ranks().world_size == 2
    with pytest.raises(ConfigError, match=r"^WORLD_SIZE=2, but RANK is not set.*torchrun"):
        rendezvous_url("")


def test_a_batch_script_that_exports_world_size_for_its_srun(environment):
    environment(STEP | {"WORLD_SIZE": "16"})
    assert ranks() == Ranks(11, 3, 16, 8, 0)


def test_variables_that_are_left_over_without_an_address(environment):
    environment({"RANK": "0", "WORLD_SIZE": "2"})
    with pytest.raises(ConfigError, match=r"^RANK=0, WORLD_SIZE=2, so .* one of 2, .*MASTER_ADDR.*Unset these"):
        rendezvous_url("")


def test_a_requeued_slurm_job_knows_that_it_was_restarted(environment):
    environment(STEP | {"SLURM_RESTART_COUNT": "1"})
    assert ranks().restarts == 1


def test_the_batch_script_around_srun_is_alone(environment):
    """It sees the job's variables, with as many tasks, but is no task."""
    environment(BATCH)
    assert ranks() == ALONE and rendezvous_url("") == "env://"


def test_a_step_of_one_task_is_alone(environment):
    environment(STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"})
    assert ranks() == ALONE


def test_torchrun_inside_slurm_wins(environment):
    """One srun task per machine, each a torchrun agent: its children inherit the step's variables."""
    environment(STEP | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"} | TORCHRUN)
    assert ranks() == Ranks(11, 3, 16, 8, 2) and rendezvous_url("") == "env://"


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"])
def test_what_is_no_number_is_refused_by_name(environment, name):
    for value in ("", "-1", "1.0", "two", "0x2", " 1", "1\n", "१", "9" * 10, "1;reboot"):
        environment(TORCHRUN | {name: value})
        with pytest.raises(ConfigError, match=f"^environment variable {name}=.*must be a whole number"):
            print(f"{name}={value!r} is taken for", ranks())


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_RESTART_COUNT"])
def test_so_are_slurms(environment, name):
    environment(STEP | {name: "many"})
    with pytest.raises(ConfigError, match=f"{name}='many'"):
        ranks()


@pytest.mark.parametrize(
    "wrong", [{"RANK": "16"}, {"WORLD_SIZE": "0"}, {"WORLD_SIZE": "11"}, {"LOCAL_RANK": "16"}, {"RANK": "99"}]
)
def test_a_rank_that_the_world_does_not_have_is_refused(environment, wrong):
    environment(TORCHRUN | wrong)
    with pytest.raises(ConfigError, match="a rank counts from 0"):
        ranks()


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("gpu07", "gpu07"),
        ("a,b", "a"),
        ("gpu[07-09,12],x1", "gpu07"),
        ("x1,gpu[07-09]", "x1"),
        ("gpu[3]", "gpu3"),
        ("node-a.cluster.org", "node-a.cluster.org"),
        ("rack[0-1]node[02-03]", "rack0node02"),
        ("gpu[07-08]-ib0", "gpu07-ib0"),
    ],
)
def test_first_host_of_a_node_list(text, host):
    assert first_host(text) == host


@pytest.mark.parametrize("text", ["", ",a", "[1-2", "[]"])
def test_a_node_list_without_a_name_is_refused(text):
    with pytest.raises(ConfigError, match="names no machine"):
        first_host(text)


@pytest.mark.parametrize("url", ["tcp://10.0.0.1:4000", "file:///tmp/meeting"])
@pytest.mark.parametrize("variables", [{}, TORCHRUN, STEP])
def test_a_named_meeting_place_is_taken(environment, variables, url):
    environment(variables)
    assert rendezvous_url(url) == url


def test_a_step_with_an_address_of_its_own_meets_there(environment):
    environment(STEP | {"MASTER_ADDR": "gpu08", "MASTER_PORT": "5000"})
    assert rendezvous_url("") == "env://"


def test_two_jobs_on_one_machine_meet_at_different_ports(environment):
    urls = []
    for job in ("1000", "1001"):
        environment(STEP | {"SLURM_JOB_ID": job})
        urls.append(rendezvous_url(""))
    assert urls == ["tcp://gpu07:21000", "tcp://gpu07:21001"]


def test_two_steps_of_one_job_meet_at_different_ports(environment):
    environment(STEP | {"SLURM_STEP_ID": "0"})
    first = rendezvous_url("")
    environment({"SLURM_STEP_ID": "1"})
    assert rendezvous_url("") != first


@pytest.mark.parametrize("job", ["1", "11999", "12000", "999999999"])
def test_the_port_of_a_job_is_none_that_the_system_hands_out(environment, job):
    environment(STEP | {"SLURM_JOB_ID": job, "SLURM_STEP_ID": "4000"})
    assert FIRST_PORT <= int(rendezvous_url("").rpartition(":")[2]) < 32768
