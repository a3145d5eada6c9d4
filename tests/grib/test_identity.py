"""convcast reads the same identity from a message as ecCodes."""

import numpy as np
import pytest

from convcast.grib import read_messages
from convcast.variables import GribKey

SECONDS = {0: 60, 1: 3600, 2: 86400, 10: 10800, 11: 21600, 12: 43200, 13: 1}


def read_by_eccodes(path):
    import eccodes

    with open(path, "rb") as file:
        while (handle := eccodes.codes_grib_new_from_file(file)) is not None:
            get = {key: eccodes.codes_get_long(handle, key) for key in KEYS}
            date, hour = f"{get['dataDate']:08d}", get["dataTime"] // 100
            level = get["scaledValueOfFirstFixedSurface"] * 10.0 ** -get["scaleFactorOfFirstFixedSurface"]
            yield (
                GribKey(
                    get["discipline"],
                    get["parameterCategory"],
                    get["parameterNumber"],
                    get["typeOfFirstFixedSurface"],
                    level,
                ),
                np.datetime64(f"{date[:4]}-{date[4:6]}-{date[6:]}T{hour:02d}", "h"),
                get["forecastTime"] * SECONDS[get["indicatorOfUnitForForecastTime"]] / 3600,
                get["productDefinitionTemplateNumber"] in range(8, 16),
                get["productionStatusOfProcessedData"] == 2,
                eccodes.codes_get_message_offset(handle),
                get["totalLength"],
            )
            eccodes.codes_release(handle)


KEYS = (
    "discipline",
    "parameterCategory",
    "parameterNumber",
    "typeOfFirstFixedSurface",
    "scaledValueOfFirstFixedSurface",
    "scaleFactorOfFirstFixedSurface",
    "dataDate",
    "dataTime",
    "forecastTime",
    "indicatorOfUnitForForecastTime",
    "productDefinitionTemplateNumber",
    "productionStatusOfProcessedData",
    "totalLength",
)


@pytest.mark.parametrize(
    "name",
    [
        "hrrr_hourly/hrrr.20180722/hrrr.t05z.wrfsfcf01.grib2",
        "hrrr/refc_20221014t01z_15min_conus.grib2",
        "hrrr/dpt2m_20260703t00z_f28_conus.grib2",
        "hrrr/constant_cfrzr_20230722t06z_f01_conus.grib2",
        "hrrr/terrain_land_conus.grib2",
        "hrrr/nam211_submessages_20180917t00z_f00.grib2",
    ],
)
def test_real_messages_read_as_eccodes_reads_them(shared_data, name):
    ours = [
        (h.key, h.init, h.lead_hours, h.statistical, h.simulated, h.offset, h.length)
        for h in (message.header for message in read_messages(shared_data / name))
    ]
    assert ours == list(read_by_eccodes(shared_data / name))
