"""The names of units: one spelling for each, its abbreviations and its names in other languages, and how units convert."""

from __future__ import annotations

from fractions import Fraction

# one spelling: its other spellings (a plural in -s is understood)
_SPELLINGS = """
meter: m metre mètre metro 米 公尺 متر मीटर
centimeter: cm centimetre centimètre centímetro 厘米 公分 سنتيمتر सेमी
millimeter: mm millimetre 毫米
kilometer: km kilometre kilomètre kilómetro 千米 公里 كيلومتر किलोमीटर किमी
foot: ft feet 英尺
inch: in inche 英寸
yard: yd
mile: mi 英里
gram: g gramme gramo 克
kilogram: kg kilo kilogramme 千克 公斤 कियोग्राम किलोग्राम किलो كيلوغرام
milligram: mg
pound: lb lbs £ livre GBP 英镑
ounce: oz
ton: tonne 吨
second: s sec seconde segundo 秒 ثانية सेकंड
minute: min minuto 分钟 دقيقة मिनट
hour: h hr heure hora stunde 小时 ساعة ساعات घंटे घंटा
millisecond: ms
day: jour día tag 天 日 يوم أيام दिन
week: wk semaine semana 周 星期
month: mo mois mes 月 个月
year: yr an année año jahr 年 岁 سنة साल वर्ष
liter: l litre litro 升 لتر लीटर
milliliter: ml millilitre 毫升
gallon: gal
quart: qt
pint: pt
cup:
tablespoon: tbsp
teaspoon: tsp
mile per hour: mph
kilometer per hour: kph kmh
celsius:
fahrenheit:
kelvin:
degree: deg ° degré grado 度 درجة डिग्री
radian: rad
percent:
joule: J
watt: W
volt: V
newton: N
hertz: Hz
pascal: Pa
kilowatt: kW
ampere: amp
mole: mol
byte:
bit:
ohm: Ω \\Omega
calorie: cal kcal
dollar: $ usd buck dólar دولار دولارا دولارات 美元 डॉलर
cent: ¢ c¢ 美分
euro: € eur 欧元 يورو यूरो
yen: ¥ jpy 日元 円
yuan: rmb cny 元 块 人民币
rupee: ₹ rs inr रुपये रुपए रुपया 卢比
won: ₩ krw
am:
pm:
unit:
person: people 人 personne شخص व्यक्ति लोग
child: children enfant 孩子
man: men
woman: women
square: sq
cubic: cu
acre:
hectare: ha
"""
# any spelling -> the one
ONE = {
    other: name
    for line in _SPELLINGS.strip().split("\n")
    for name, others in [line.split(":")]
    for other in (name, *others.split())
}
_MEASURES = {
    "length": "meter 1, centimeter 1/100, millimeter 1/1000, kilometer 1000, inch 0.0254, foot 0.3048, yard 0.9144, "
    "mile 1609.344",
    "mass": "gram 1, kilogram 1000, milligram 1/1000, ton 1000000, pound 453.59237, ounce 28.349523125",
    "time": "second 1, minute 60, hour 3600, day 86400, week 604800, millisecond 1/1000",
    "months": "month 1, year 12, decade 120, century 1200",
    "volume": "liter 1, milliliter 1/1000",
    "kitchen": "cup 1, pint 2, quart 4, gallon 16, tablespoon 1/16, teaspoon 1/48",
    "money": "dollar 1, cent 1/100",
}
# unit -> (what it measures, how much of it)
SIZE = {
    name: (measure, Fraction(size))
    for measure, entries in _MEASURES.items()
    for name, size in (entry.split() for entry in entries.split(","))
}
MONEY = frozenset({"dollar", "cent", "euro", "pound", "yen", "yuan", "rupee", "won"})
